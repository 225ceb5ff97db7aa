//! Text for people from templates. Whatever a peer wrote is escaped for the format at hand, by default and without
//! exception: a template that forgets nothing can't be written, so none has to remember.

use minijinja::{AutoEscape, Environment, Error, Output, State, Value};

/// The name of Markdown among the ways to escape.
const MARKDOWN: &str = "markdown";

/// What stands where something is not known.
const NOTHING: &str = "–";

/// An environment whose templates escape by the end of their name: `.html`, `.md`.
///
/// # Errors
/// A template that does not parse.
pub fn environment(templates: &[(&'static str, &'static str)]) -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|name| {
        if name.ends_with(".md") { AutoEscape::Custom(MARKDOWN.into()) } else { AutoEscape::Html }
    });
    environment.set_formatter(write_value);
    for (name, source) in templates {
        environment.add_template(name, source)?;
    }
    Ok(environment)
}

fn write_value(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    if value.is_none() {
        return out.write_str(NOTHING).map_err(Error::from);
    }
    let text = value.to_string();
    let escaped = match state.auto_escape() {
        _ if value.is_safe() => text,
        AutoEscape::Custom(_) => markdown(&text),
        _ => html(&text),
    };
    out.write_str(&escaped).map_err(Error::from)
}

/// Whether a character could steer a terminal, reorder a line or end it.
fn is_steering(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// One line without control characters and reorderings: each of them, and each line end, becomes a space.
#[must_use]
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if is_steering(c) { ' ' } else { c }).collect()
}

/// [`plain`] text, escaped for HTML's text and quoted attributes.
#[must_use]
pub fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if is_steering(c) => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// [`plain`] text, escaped so that CommonMark, its tables and its bare links show it as it is.
#[must_use]
pub fn markdown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut before = None;
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        let within_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            // Within a word it is no emphasis.
            '_' if within_word(before) && within_word(rest.clone().next()) => out.push(c),
            '\\' | '`' | '*' | '_' | '[' | ']' | '#' | '|' | '!' | '~' | '$' => {
                out.push('\\');
                out.push(c);
            }
            // What would make a link of a bare address.
            ':' if rest.as_str().starts_with("//") => out.push_str("\\:"),
            '.' if ends_with_www(&out) => out.push_str("\\."),
            c if is_steering(c) => out.push(' '),
            c => out.push(c),
        }
        before = Some(c);
    }
    out
}

fn ends_with_www(text: &str) -> bool {
    text.as_bytes().last_chunk::<3>().is_some_and(|end| end.eq_ignore_ascii_case(b"www"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NASTY: &str = "<script>a|b</script>\u{1b}[31m\n# x `y` [z](http://e) \u{202e}\"'&";

    #[test]
    fn what_a_peer_wrote_stays_text() {
        assert_eq!(html(NASTY), "&lt;script&gt;a|b&lt;/script&gt; [31m # x `y` [z](http://e)  &quot;&#39;&amp;");
        assert_eq!(
            markdown(NASTY),
            "&lt;script&gt;a\\|b&lt;/script&gt; \\[31m \\# x \\`y\\` \\[z\\](http\\://e)  \"'&amp;"
        );
        assert_eq!(markdown("error_rate at 10:00 _x_"), "error_rate at 10:00 \\_x\\_");
        assert_eq!(plain("a\u{1b}[31m\r\nb\u{9b}c"), "a [31m  b c");
    }

    #[test]
    fn a_template_escapes_by_its_name() {
        let environment = environment(&[("a.html", "{{ x }}"), ("a.md", "{{ x }}")]).expect("they parse");
        let rendered = |name| {
            let template = environment.get_template(name).expect("it is there");
            template.render(minijinja::context! { x => NASTY }).expect("it renders")
        };
        assert_eq!((rendered("a.html"), rendered("a.md")), (html(NASTY), markdown(NASTY)));
    }
}
