//! The page of a run in a real browser: it complains of nothing, loads nothing, has room on a laptop, in light and
//! dark, and leads to the violation.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod browser;
mod made;

use std::path::{Path, PathBuf};

use browser::Browser;
use quorate_chaos::report::{Evidence, Report, page};
use serde_json::Value;

/// A laptop's window.
const LAPTOP: (u32, u32) = (1280, 800);

/// Where pictures are kept, for whoever wants to look at them.
fn pictures() -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("chaos-pages");
    std::fs::create_dir_all(&directory).unwrap();
    directory
}

fn write(evidence: &Evidence, directory: &Path) -> PathBuf {
    let log = "2026-11-21T20:00:06.100000Z  WARN quorate_raft: read index reused\n  and its second line\n";
    std::fs::write(directory.join("m2.log"), log).unwrap();
    let file = directory.join("report.html");
    std::fs::write(&file, page(&Report::of(evidence), evidence, directory)).unwrap();
    file
}

/// In this page, whatever it shows.
fn looks_right(browser: &mut Browser, what: &str) {
    assert_eq!(browser.complaints(), Vec::<String>::new(), "{what}");
    assert_eq!(browser.ask("document.documentElement.dataset.script"), "ready", "its script ran");
    let wide = browser.ask(
        "[document.documentElement.scrollWidth, ...[...document.querySelectorAll('body *')] \
         .filter((part) => part.getBoundingClientRect().right > innerWidth + 1 && !part.closest('.wide')) \
         .map((part) => part.tagName + '.' + part.className)]",
    );
    assert_eq!(wide, serde_json::json!([LAPTOP.0]), "{what}: no part is beyond the window");
    for (part, least) in [
        ("#timeline", 1),
        ("#timeline rect.band", 2),
        ("#timeline rect.leader", 3),
        ("#timeline path.middle", 2),
        ("#timeline path.answered", 2),
        (".checks .chip", 10),
        ("dl.tiles dd", 6),
    ] {
        let count = browser.ask(&format!(
            "[...document.querySelectorAll('{part}')] \
             .filter((part) => part.getBoundingClientRect().height + part.getBoundingClientRect().width > 0).length"
        ));
        assert!(count.as_u64() >= Some(least), "{what}: {count} of {part}, {least} wanted");
    }
    // Under the pointer is told what was then.
    let tip = browser.ask(
        "(() => { const box = document.getElementById('timeline').getBoundingClientRect(); \
         document.getElementById('timeline').dispatchEvent(new PointerEvent('pointermove', \
         {clientX: box.left + box.width / 2, clientY: box.top + 40, bubbles: true})); \
         return document.getElementById('tip').innerText; })()",
    );
    assert!(tip.as_str().unwrap().contains("median"), "{what}: {tip}");
    browser
        .ask("document.getElementById('timeline').dispatchEvent(new PointerEvent('pointerleave'))");
}

/// How light the page's ground is, of 255, and how far its text is from that (WCAG's ratio of contrast).
fn contrast(browser: &mut Browser) -> (f64, f64) {
    let told = browser.ask(
        "(() => { const parts = (text) => text.match(/[0-9.]+/g).slice(0, 3).map(Number); \
         const light = (rgb) => rgb.map((part) => part / 255) \
           .map((part) => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4) \
           .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0); \
         const style = getComputedStyle(document.body); \
         const [ground, text] = [parts(style.backgroundColor), parts(style.color)]; \
         const [low, high] = [light(ground), light(text)].sort((a, b) => a - b); \
         return [Math.max(...ground), (high + 0.05) / (low + 0.05)]; })()",
    );
    (told[0].as_f64().unwrap(), told[1].as_f64().unwrap())
}

#[test]
fn a_browser_shows_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut browser = match Browser::start(directory.path()) {
        Ok(browser) => browser,
        Err(lacks) => {
            eprintln!("SKIPPED: {lacks}");
            return;
        }
    };
    for (evidence, name) in [(made::good(), "pass"), (made::stale(), "fail")] {
        let file = write(&evidence, directory.path());
        for scheme in ["light", "dark"] {
            let what = format!("{name}-{scheme}");
            browser.open(&file, LAPTOP, scheme);
            looks_right(&mut browser, &what);
            let (ground, ratio) = contrast(&mut browser);
            assert!((ground > 128.0) == (scheme == "light"), "{what}: its ground is {ground}");
            assert!(ratio > 7.0, "{what}: text has a contrast of {ratio}");
            let picture = browser.photograph(&pictures().join(format!("{what}.png")), true);
            assert!(picture.len() > 20_000, "{what}: a picture of {} bytes", picture.len());
        }
        leads_to_the_violation(&mut browser, name == "fail");
    }
}

fn leads_to_the_violation(browser: &mut Browser, is_there: bool) {
    let found = browser.ask("document.querySelectorAll('a.jump, #violation').length");
    assert_eq!(found, if is_there { 2 } else { 0 });
    if !is_there {
        return;
    }
    let before = browser.ask("document.getElementById('violation').getBoundingClientRect().top");
    // Where it scrolls to is looked at, not how it moves.
    browser.ask("document.documentElement.style.scrollBehavior = 'auto'");
    browser.ask("document.querySelector('a.jump').click()");
    let after = browser.ask(
        "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done( \
         document.getElementById('violation').getBoundingClientRect().top))))",
    );
    let (before, after) = (before.as_f64().unwrap(), after.as_f64().unwrap());
    assert!((0.0..100.0).contains(&after), "it was at {before} and is at {after} of the window");
    assert_eq!(browser.ask("location.hash"), "#violation");
    let wrong = browser.ask("document.querySelector('#violation tr.wrong').innerText");
    assert!(wrong.as_str().unwrap().contains("581"), "{wrong}");
    // A click into the timeline leads to what was logged then.
    let line: Value = browser.ask(
        "(() => { const picture = document.getElementById('timeline'), box = picture.getBoundingClientRect(); \
         picture.dispatchEvent(new MouseEvent('click', \
         {clientX: box.left + box.width * 0.65, clientY: box.top + 60, bubbles: true})); \
         return document.querySelector('tr.here')?.innerText; })()",
    );
    assert!(line.as_str().is_some_and(|line| line.contains("read index reused")), "{line}");
    browser.photograph(&pictures().join("violation.png"), false);
}
