//! The JSON Schema of policy files, for editors.

use schemars::generate::SchemaSettings;

use super::raw::File;

/// The JSON Schema of a policy file, draft 2020-12, made from the very lists of keys that the decoder uses.
#[must_use]
pub fn policy_file() -> serde_json::Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    generator.into_root_schema_for::<File>().to_value()
}
