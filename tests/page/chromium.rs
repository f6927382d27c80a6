//! A real Chromium without a window, told what to do over the pipe that it has for that purpose: messages of its DevTools
//! protocol, as JSON, each ended by a zero byte.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::PATIENCE;
use crate::support::process::{Process, run_well};

/// Debian's Chromium, or Google's own build of it where there is no other; it becomes this very process.
const SCRIPT: &str = r#"
for browser in "$CHROMIUM_BIN" chromium google-chrome; do
    ! command -v "$browser" >/dev/null || exec "$browser" "$@" 3<"$COMMANDS" 4>"$MESSAGES"
done
echo 'chromium is not installed: run `make setup`, or `apt-get install chromium`' >&2
exit 127
"#;

/// How long nothing may come before the process is looked at.
const GLANCE: Duration = Duration::from_millis(200);

/// What a page may do to a browser that is seen from outside.
#[derive(Debug, Default)]
pub struct Told {
    /// The addresses that it asked for.
    pub requests: Vec<String>,
    /// What stands in the console: errors, warnings, refusals of the policy.
    pub complaints: Vec<String>,
}

/// The browser, with one page.
pub struct Chromium {
    process: Process,
    _dir: TempDir,
    commands: File,
    messages: Receiver<Value>,
    session: String,
    number: u64,
    told: Told,
}

impl Chromium {
    /// Starts it, and opens an empty page.
    pub fn start() -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let (inward, outward) = (dir.path().join("commands"), dir.path().join("messages"));
        run_well(Command::new("mkfifo").args([&inward, &outward]));
        let mut command = Command::new("sh");
        // Nothing of its own may be asked for: only what the page asks for is of interest.
        command.args(["-c", SCRIPT, "sh"]).args([
            "--headless=new",
            "--no-sandbox",
            "--remote-debugging-pipe",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-extensions",
            "--hide-scrollbars",
            "--no-first-run",
            "--no-default-browser-check",
            "--no-proxy-server",
            "--font-render-hinting=none",
        ]);
        command.arg(format!("--user-data-dir={}", dir.path().join("profile").display()));
        command.env("CHROMIUM_BIN", std::env::var_os("CHROMIUM_BIN").unwrap_or_default());
        command.env("COMMANDS", &inward).env("MESSAGES", &outward).env("HOME", dir.path());
        let process = Process::start(&mut command, &dir.path().join("log"));
        // Opened for both directions, so that neither waits for a browser that does not come.
        let open = |path| OpenOptions::new().read(true).write(true).open(path).expect("open a pipe");
        let (commands, answers) = (open(&inward), open(&outward));
        let (send, messages) = channel();
        std::thread::spawn(move || {
            for message in BufReader::new(answers).split(0).map_while(Result::ok) {
                let Ok(message) = serde_json::from_slice(&message) else { continue };
                if send.send(message).is_err() {
                    break;
                }
            }
        });
        let mut chromium =
            Self { commands, messages, session: String::new(), number: 0, told: Told::default(), _dir: dir, process };
        let target = chromium.ask("Target.createTarget", json!({ "url": "about:blank" }));
        let attached =
            chromium.ask("Target.attachToTarget", json!({ "targetId": target["targetId"], "flatten": true }));
        chromium.session = attached["sessionId"].as_str().expect("a session").to_owned();
        for domain in ["Page", "Network", "Runtime", "Log", "Audits", "Accessibility"] {
            chromium.ask(&format!("{domain}.enable"), json!({}));
        }
        chromium
    }

    /// As on such a screen, under such a sky.
    pub fn dress(&mut self, width: u32, scheme: &str) {
        // A narrow screen is a telephone's, which takes the width that the page says it has.
        let mobile = width < 600;
        let metrics = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": mobile });
        self.ask("Emulation.setDeviceMetricsOverride", metrics);
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.ask("Emulation.setEmulatedMedia", json!({ "features": features }));
    }

    /// Forbids or allows scripts, as some readers do.
    pub fn forbid_scripts(&mut self, forbidden: bool) {
        self.ask("Emulation.setScriptExecutionDisabled", json!({ "value": forbidden }));
    }

    /// Opens an address and waits until it is there; gives what the browser was asked to do and complained about.
    pub fn open(&mut self, url: &str) -> Told {
        self.told = Told::default();
        let answer = self.ask("Page.navigate", json!({ "url": url }));
        assert!(answer.get("errorText").is_none(), "{url}: {answer}");
        self.wait_for("Page.loadEventFired");
        // Whatever the page still has in mind comes before the answer to this.
        self.evaluate("new Promise(done => requestAnimationFrame(() => setTimeout(done, 50)))");
        std::mem::take(&mut self.told)
    }

    /// The value of an expression, in the page.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.ask("Runtime.evaluate", parameters);
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// What the browser has to say about something that is done to the page.
    pub fn complaints_after(&mut self, expression: &str) -> Vec<String> {
        self.told = Told::default();
        self.ask("Runtime.evaluate", json!({ "expression": expression, "awaitPromise": true }));
        self.evaluate("new Promise(done => setTimeout(done, 100))");
        std::mem::take(&mut self.told.complaints)
    }

    /// Does something that leads to another page, and waits for that.
    pub fn follow(&mut self, expression: &str) {
        self.ask("Runtime.evaluate", json!({ "expression": expression }));
        self.wait_for("Page.loadEventFired");
    }

    /// What a screen reader is told: each node's role and name.
    pub fn accessibility(&mut self) -> Vec<(String, String)> {
        let tree = self.ask("Accessibility.getFullAXTree", json!({}));
        let word = |value: &Value| value["value"].as_str().unwrap_or_default().replace('\u{a0}', " ");
        let nodes = tree["nodes"].as_array().expect("nodes").iter();
        nodes.filter(|node| node["ignored"] == false).map(|node| (word(&node["role"]), word(&node["name"]))).collect()
    }

    /// A picture of the page as PNG, from its top, this many pixels of it at most, each drawn by so many.
    pub fn picture(&mut self, width: u32, most: u32, scale: u32) -> Vec<u8> {
        let whole =
            self.evaluate("document.documentElement.getBoundingClientRect().height").as_f64().expect("a height");
        let clip =
            json!({ "x": 0, "y": 0, "width": width, "height": whole.ceil().min(f64::from(most)), "scale": scale });
        let parameters = json!({ "format": "png", "clip": clip, "captureBeyondViewport": true });
        let picture = self.ask("Page.captureScreenshot", parameters);
        openssl::base64::decode_block(picture["data"].as_str().expect("a picture")).expect("base64")
    }

    fn ask(&mut self, method: &str, parameters: Value) -> Value {
        self.number += 1;
        let mut message = json!({ "id": self.number, "method": method, "params": parameters });
        if !self.session.is_empty() {
            message["sessionId"] = self.session.clone().into();
        }
        self.commands.write_all(format!("{message}\0").as_bytes()).expect("write to chromium");
        let id = self.number;
        let answer = self.next_that(&format!("an answer to {method}"), |message| message["id"] == id);
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].clone()
    }

    fn wait_for(&mut self, event: &str) {
        self.next_that(event, |message| message["method"] == event);
    }

    fn next_that(&mut self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let left = PATIENCE.saturating_sub(start.elapsed());
            let Ok(message) = self.messages.recv_timeout(left.min(GLANCE)) else {
                assert!(!left.is_zero(), "waited in vain for {what}");
                if let Some(status) = self.process.exited() {
                    panic!("the browser ended with {status}");
                }
                continue;
            };
            self.note(&message);
            if is(&message) {
                return message;
            }
        }
    }

    fn note(&mut self, message: &Value) {
        let parameters = &message["params"];
        match message["method"].as_str() {
            Some("Network.requestWillBeSent") => {
                self.told.requests.push(parameters["request"]["url"].as_str().unwrap_or_default().to_owned());
            }
            Some("Log.entryAdded" | "Runtime.exceptionThrown" | "Runtime.consoleAPICalled" | "Audits.issueAdded") => {
                self.told.complaints.push(message.to_string());
            }
            _ => {}
        }
    }
}
