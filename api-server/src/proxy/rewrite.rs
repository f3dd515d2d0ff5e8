//! Links in what a pod answers: those to itself have to lead through the API server.

use std::borrow::Cow;
use std::rc::Rc;

use lol_html::{ElementContentHandlers, RewriteStrSettings, Selector, rewrite_str};

/// Attributes that hold links (HTML, index of attributes), as upstream's `atomsToAttrs`.
const ATTRIBUTES: &[(&str, &[&str])] = &[
    ("a", &["href"]),
    ("applet", &["codebase"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("command", &["icon"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("head", &["profile"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["src", "formaction", "usemap"]),
    ("ins", &["cite"]),
    ("link", &["href"]),
    ("object", &["classid", "codebase", "data", "usemap"]),
    ("q", &["cite"]),
    ("script", &["src"]),
    ("source", &["src"]),
    ("video", &["poster", "src"]),
];

/// Between which places links lead.
#[derive(Debug, Clone)]
pub(super) struct Links {
    /// What comes before the pod's own paths.
    pub(super) prefix: String,
    /// Where the pod is: host and port.
    pub(super) backend: String,
    /// What the client calls the API server.
    pub(super) front: String,
}

impl Links {
    /// Where a link has to lead instead; `None` when it may stay.
    pub(super) fn rewritten(&self, link: &str) -> Option<String> {
        let path = match host_and_path(link) {
            (Some(host), path) => {
                let is_own = host.is_empty() || host == self.backend || host == self.front;
                path.filter(|_| is_own)?
            }
            (None, path) => path?,
        };
        let (path, rest) = path.split_at(path.find(['?', '#']).unwrap_or(path.len()));
        if path.starts_with(&self.prefix) {
            return (path.len() + rest.len() < link.len()).then(|| format!("{path}{rest}"));
        }
        Some(format!("{}{path}{rest}", self.prefix))
    }

    /// A page with such links.
    pub(super) fn page(&self, bytes: &[u8]) -> Result<String, String> {
        let text = String::from_utf8_lossy(bytes);
        let mut settings = RewriteStrSettings::new();
        let links = Rc::new(self.clone());
        for (tag, attributes) in ATTRIBUTES {
            let selector: Selector = tag.parse().map_err(|error| format!("{tag}: {error}"))?;
            let links = links.clone();
            let handler = ElementContentHandlers::default().element(
                move |element: &mut lol_html::html_content::Element<'_, '_>| {
                    for name in *attributes {
                        let link = element.get_attribute(name);
                        if let Some(to) = link.and_then(|link| links.rewritten(link.trim())) {
                            element.set_attribute(name, &to)?;
                        }
                    }
                    Ok(())
                },
            );
            settings = settings.append_element_content_handler((Cow::Owned(selector), handler));
        }
        rewrite_str(&text, settings).map_err(|error| error.to_string())
    }
}

/// The host that a link names, if it names one, and its path, if that begins at the root.
fn host_and_path(link: &str) -> (Option<&str>, Option<&str>) {
    let scheme = link.find("://").filter(|at| {
        link[..*at].chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
    });
    let after = match scheme {
        Some(at) => Some(&link[at + 3..]),
        None => link.strip_prefix("//"),
    };
    match after {
        Some(after) => {
            let end = after.find(['/', '?', '#']).unwrap_or(after.len());
            (Some(&after[..end]), after[end..].starts_with('/').then(|| &after[end..]))
        }
        None => (None, link.starts_with('/').then_some(link)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links() -> Links {
        Links {
            prefix: "/api/v1/namespaces/n/pods/p/proxy".to_owned(),
            backend: "10.0.0.1:80".to_owned(),
            front: "api:6443".to_owned(),
        }
    }

    #[test]
    fn links_to_the_pod_lead_through_the_api_server() {
        let prefix = links().prefix;
        for (link, path) in [
            ("/", "/"),
            ("/a/b/?c=/d#e", "/a/b/?c=/d#e"),
            ("http://10.0.0.1:80/a", "/a"),
            ("https://api:6443/a/", "/a/"),
            ("//10.0.0.1:80/a", "/a"),
        ] {
            assert_eq!(links().rewritten(link), Some(format!("{prefix}{path}")), "{link}");
        }
        for link in ["a/b", "", "#x", "?y", "http://elsewhere/a", "//elsewhere/a", "mailto:a@b"] {
            assert_eq!(links().rewritten(link), None, "{link}");
        }
        assert_eq!(links().rewritten(&format!("{prefix}/a")), None);
    }

    #[test]
    fn pages_are_rewritten_and_otherwise_left_alone() {
        let page = "<!doctype html><p>1 < 2 <a class=x href=\"/a\">a</a><img src='b.png'>\
                    <script src=/c.js>\"/d\"</script><!-- <a href=/e> -->";
        let expected = "<!doctype html><p>1 < 2 <a class=x \
                        href=\"/api/v1/namespaces/n/pods/p/proxy/a\">a</a><img src='b.png'>\
                        <script src=\"/api/v1/namespaces/n/pods/p/proxy/c.js\">\"/d\"</script>\
                        <!-- <a href=/e> -->";
        assert_eq!(links().page(page.as_bytes()).unwrap(), expected);
    }
}
