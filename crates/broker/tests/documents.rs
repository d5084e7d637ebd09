//! Documents that are made from the code are checked in and current.

#[test]
fn the_configuration_reference_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
    let written = std::fs::read_to_string(path).expect("docs/configuration.md is there");
    let made = ottla_cluster::config::docs::render();
    assert!(written == made, "run: cargo run -p ottla-broker -- print-config-docs > docs/configuration.md");
}
