//! A headless Chromium, spoken to by its own protocol (DevTools) over pipes: a page is opened, asked and photographed.
#![allow(unreachable_pub, reason = "a part of tests")]

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};

/// For each answer, on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Messages that wait to be looked at.
const MESSAGES_MAX: usize = 4096;

/// The browser, with one page. It ends with this value.
pub struct Browser {
    process: Child,
    to: File,
    from: Receiver<Value>,
    last: u64,
    session: Option<String>,
    /// What happened meanwhile, in order.
    pub events: VecDeque<Value>,
}

impl Browser {
    /// Starts it; why not, where it cannot be had.
    pub fn start(directory: &Path) -> Result<Self, String> {
        let names = ["chromium", "chromium-browser", "google-chrome"];
        let found = names.into_iter().find(|name| {
            let mut asked = Command::new(name);
            let asked = asked.arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
            asked.is_ok_and(|status| status.success())
        });
        let name = found.ok_or("chromium is missing: apt-get install chromium")?;
        let (to, from) = (directory.join("to"), directory.join("from"));
        for pipe in [&to, &from] {
            let made = Command::new("mkfifo").arg(pipe).status();
            if !made.is_ok_and(|status| status.success()) {
                return Err("mkfifo is missing: apt-get install coreutils".to_owned());
            }
        }
        // It reads commands from its third file and answers to its fourth.
        let process = Command::new("sh")
            .args(["-c", r#"in=$1 out=$2; shift 2; exec "$@" 3<"$in" 4>"$out""#, "sh"])
            .args([&to, &from])
            .args([name, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"])
            .args(["--no-first-run", "--disable-dev-shm-usage", "--hide-scrollbars"])
            .arg(format!("--user-data-dir={}", directory.join("profile").display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Each waits until the other end is open.
        let (to, from) = (OpenOptions::new().write(true).open(to), File::open(from));
        let (to, mut reader) = (to.unwrap(), BufReader::new(from.unwrap()));
        let (sender, receiver) = sync_channel(MESSAGES_MAX);
        std::thread::spawn(move || {
            let mut message = Vec::new();
            while matches!(reader.read_until(0, &mut message), Ok(1..)) {
                message.pop();
                let Ok(value) = serde_json::from_slice(&message) else { break };
                if sender.send(value).is_err() {
                    break;
                }
                message.clear();
            }
        });
        let (last, session, events) = (0, None, VecDeque::new());
        let mut browser = Self { process, to, from: receiver, last, session, events };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = browser.call("Target.attachToTarget", attach);
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        Ok(browser)
    }

    /// One command; its answer.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.last += 1;
        let mut message = json!({"id": self.last, "method": method, "params": params});
        if let (Some(session), Some(fields)) = (&self.session, message.as_object_mut()) {
            fields.insert("sessionId".to_owned(), json!(session));
        }
        let mut bytes = serde_json::to_vec(&message).unwrap();
        bytes.push(0);
        self.to.write_all(&bytes).unwrap();
        loop {
            let mut got = self.next(method);
            if got["id"] == self.last {
                assert!(got.get("error").is_none(), "{method}: {got}");
                return got["result"].take();
            }
            self.events.push_back(got);
        }
    }

    fn next(&mut self, what: &str) -> Value {
        match self.from.recv_timeout(PATIENCE) {
            Ok(got) => got,
            Err(RecvTimeoutError::Timeout) => panic!("{what}: no answer in {PATIENCE:?}"),
            Err(RecvTimeoutError::Disconnected) => panic!("{what}: the browser has ended"),
        }
    }

    /// Opens a file, in a window of this size and in light or dark, and waits until it is loaded.
    pub fn open(&mut self, file: &Path, (width, height): (u32, u32), scheme: &str) {
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", size);
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.call("Emulation.setEmulatedMedia", json!({"features": features}));
        self.events.clear();
        let url = format!("file://{}", file.display());
        self.call("Page.navigate", json!({"url": url}));
        let is_load = |event: &Value| event["method"] == "Page.loadEventFired";
        while !self.events.iter().any(is_load) {
            let event = self.next("load");
            self.events.push_back(event);
        }
    }

    /// What an expression is worth in the page.
    pub fn ask(&mut self, expression: &str) -> Value {
        let params = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let mut answer = self.call("Runtime.evaluate", params);
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].take()
    }

    /// What the page complained of, and what it asked of any network.
    pub fn complaints(&self) -> Vec<String> {
        let complaint = |event: &Value| {
            let params = &event["params"];
            match event["method"].as_str()? {
                "Runtime.exceptionThrown" => Some(params.to_string()),
                "Runtime.consoleAPICalled" if params["type"] == "error" => Some(params.to_string()),
                "Log.entryAdded" => Some(params.to_string()),
                "Network.requestWillBeSent" => {
                    let url = params["request"]["url"].as_str().unwrap_or_default();
                    (params["type"] != "Document").then(|| format!("request of {url}"))
                }
                _ => None,
            }
        };
        self.events.iter().filter_map(complaint).collect()
    }

    /// Photographs the page: what is in the window, or all of it.
    pub fn photograph(&mut self, file: &Path, whole: bool) -> Vec<u8> {
        let params = json!({"format": "png", "captureBeyondViewport": whole});
        let shot = self.call("Page.captureScreenshot", params);
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(shot["data"].as_str().unwrap())
            .unwrap();
        std::fs::write(file, &bytes).unwrap();
        bytes
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
