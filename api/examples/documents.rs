//! Writes the discovery and OpenAPI documents to a folder, as a server would answer them:
//! `cargo run -p quorate-api --example documents -- FOLDER`. To look at, and to try clients on.

use std::path::Path;

use quorate_api::{discovery, openapi, resource};

fn main() -> std::io::Result<()> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| "documents".to_owned());
    let write = |path: &str, body: &[u8]| {
        let path = Path::new(&folder).join(path);
        std::fs::create_dir_all(path.parent().unwrap_or(&path))?;
        std::fs::write(path, body)
    };
    let v2 = discovery::Aggregated::V2;
    write("api.json", &discovery::aggregated(v2, true).body)?;
    write("apis.json", &discovery::aggregated(v2, false).body)?;
    write("openapi/v3.json", &openapi::index().body)?;
    for group in resource::groups() {
        let base =
            if group.name.is_empty() { "api".to_owned() } else { format!("apis/{}", group.name) };
        for version in group.versions {
            let path = format!("{base}/{version}");
            if let Some(list) = discovery::resource_list(group.name, version) {
                write(&format!("{path}.json"), &list.body)?;
            }
            if let Some(document) = openapi::document(&path) {
                write(&format!("openapi/v3/{path}.json"), &document.body)?;
            }
        }
    }
    Ok(())
}
