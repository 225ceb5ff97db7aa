//! What is kept of workloads' settings: contents by what stands for them, bounded for each workload.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, params};

use super::error::StoreError;
use super::schema::optional;
use crate::domain::settings::ContentId;

/// Bytes kept of one workload's settings at most: what a ConfigMap can hold, with room to spare.
pub(super) const MOST_BYTES: usize = 768 * 1024;

/// Why more is not kept.
pub(super) fn is_full(bytes: usize) -> String {
    format!("the settings of its releases have {bytes} bytes, more than the {MOST_BYTES} that are kept of a workload")
}

/// Adds contents and lets go of those that are not needed, where that is said.
pub(super) fn put(
    connection: &mut Connection,
    workload: &str,
    contents: &BTreeMap<ContentId, Vec<u8>>,
    needed: Option<&BTreeSet<ContentId>>,
) -> Result<(), StoreError> {
    let keeping = StoreError::failed("keeping settings");
    let transaction = connection.transaction().map_err(&keeping)?;
    for known in known(&transaction, workload)? {
        if needed.is_some_and(|needed| !needed.contains(&known)) {
            transaction
                .execute("DELETE FROM shelf WHERE workload = ?1 AND content = ?2", params![workload, known.as_str()])
                .map_err(&keeping)?;
        }
    }
    for (content, body) in contents {
        transaction
            .prepare_cached("INSERT OR IGNORE INTO shelf (workload, content, body) VALUES (?1, ?2, ?3)")
            .and_then(|mut s| s.execute(params![workload, content.as_str(), body]))
            .map_err(&keeping)?;
    }
    let sql = "SELECT coalesce(sum(length(body)), 0) FROM shelf WHERE workload = ?1";
    let bytes: i64 = optional(&transaction, sql, [workload]).map_err(&keeping)?.unwrap_or_default();
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    if bytes > MOST_BYTES {
        return Err(StoreError::Full { why: is_full(bytes) });
    }
    transaction.commit().map_err(&keeping)
}

fn known(connection: &Connection, workload: &str) -> Result<Vec<ContentId>, StoreError> {
    let reading = StoreError::failed("reading settings");
    let mut statement = connection.prepare_cached("SELECT content FROM shelf WHERE workload = ?1").map_err(&reading)?;
    let rows = statement.query_map([workload], |row| row.get::<_, String>(0)).map_err(&reading)?;
    rows.map(|content| content.map(ContentId::new)).collect::<Result<_, _>>().map_err(&reading)
}

/// Finds one. Whoever asks holds it against what stands for it.
pub(super) fn find(connection: &Connection, workload: &str, content: &str) -> Result<Option<Vec<u8>>, StoreError> {
    let sql = "SELECT body FROM shelf WHERE workload = ?1 AND content = ?2";
    optional(connection, sql, params![workload, content]).map_err(StoreError::failed("reading settings"))
}

/// Lets go of what is kept of workloads that nothing is on record of any more.
pub(super) fn prune(connection: &Connection) -> Result<(), StoreError> {
    let sql =
        "DELETE FROM shelf WHERE workload NOT IN (SELECT workload FROM records UNION SELECT workload FROM snapshots)";
    connection.execute(sql, []).map_err(StoreError::failed("pruning settings"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::domain::settings::ContentId;
    use crate::engine::ports::Shelf;
    use crate::store::{Books, Store};

    fn id(text: &str) -> ContentId {
        ContentId::new(text)
    }

    #[tokio::test]
    async fn what_is_needed_stays_and_the_rest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let books = Books::alone(store);
        let put = async |contents: &[(&str, usize)], needed: &[&str]| {
            let contents = contents.iter().map(|(name, bytes)| (id(name), vec![7; *bytes])).collect();
            books.put("shop".into(), contents, Some(needed.iter().map(|name| id(name)).collect())).await
        };
        let find = async |workload: &str, name: &str| books.find(workload.into(), id(name)).await.unwrap();
        put(&[("a", 10), ("b", 20)], &["a", "b"]).await.unwrap();
        assert_eq!(find("shop", "b").await, Some(vec![7; 20]));
        assert_eq!(find("cart", "b").await, None);
        put(&[("c", 30)], &["b", "c"]).await.unwrap();
        assert_eq!(find("shop", "a").await, None);
        let told = put(&[("d", super::MOST_BYTES)], &["b", "c", "d"]).await.unwrap_err().to_string();
        assert!(told.contains("more than the"), "{told}");
        assert_eq!(find("shop", "c").await, Some(vec![7; 30]), "nothing of it was written");
    }
}
