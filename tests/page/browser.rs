//! What a real browser makes of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use haproxy_stapler::status::Status;
use serde_json::Value;

use crate::chromium::Chromium;
use crate::looks::Server;
use crate::samples::{FIRST, catastrophe, day, many, night, site, stapled, up};

/// The widths of a telephone, of one on its side, of a tablet and of a desk.
const WIDTHS: [u32; 4] = [360, 640, 900, 1280];

/// Of each text, the least contrast with what lies behind it, as WCAG 2 computes it; below that of its level AA, where
/// it stands.
const CONTRAST: &str = "(() => {
    const channels = color => color.match(/[\\d.]+/g).map(Number);
    const light = ([r, g, b]) => [r, g, b].map(c => c / 255)
        .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const behind = element => {
        for (let at = element; at; at = at.parentElement) {
            const color = channels(getComputedStyle(at).backgroundColor);
            if (color.length === 3 || color[3] === 1) return color;
        }
        return [255, 255, 255];
    };
    const faint = [];
    let texts = 0;
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement;
        if (!walker.currentNode.data.trim() || !element.checkVisibility()) continue;
        texts += 1;
        const [a, b] = [light(channels(getComputedStyle(element).color)), light(behind(element))];
        const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (contrast < 4.5) faint.push(walker.currentNode.data.trim().slice(0, 40) + ': ' + contrast.toFixed(2));
    }
    return { texts, faint };
})()";

fn assert_fits(chromium: &mut Chromium, width: u32, what: &str) {
    let wide = chromium.evaluate("document.scrollingElement.scrollWidth").as_u64().unwrap();
    assert!(wide <= u64::from(width), "{what} is {wide} pixels wide on {width}");
}

fn open_all(chromium: &mut Chromium) {
    chromium.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)");
}

/// Texts as long as they may be, without a place to break.
fn unbroken() -> Status {
    let mut status = catastrophe();
    for one in &mut status.certificates {
        let one = Arc::make_mut(one);
        one.certificate = format!("/etc/haproxy/{}", "x".repeat(2000)).into();
        one.subject = format!("CN={}", "W".repeat(2000)).into();
        one.serial_number = "7".repeat(40).into();
        one.detail = "ä".repeat(2000);
    }
    status.haproxy[0].haproxy = format!("/run/{}", "y".repeat(300)).into();
    status
}

#[test]
fn it_fits_every_screen_by_day_and_by_night_and_breaks_no_rule() {
    let mut chromium = Chromium::start();
    for (name, status, texts) in [
        ("the night", night(), 200),
        ("the catastrophe", catastrophe(), 200),
        ("the day", day(), 100),
        ("nothing", Status::default(), 10),
        ("two thousand", many(2000), 1000),
        ("the unbroken", unbroken(), 100),
    ] {
        let server = Server::start(status);
        for scheme in ["light", "dark"] {
            for width in WIDTHS {
                let what = format!("{name} at {width} pixels, {scheme}");
                chromium.dress(width, scheme);
                let told = chromium.open(&server.url());
                assert_eq!(told.requests, [format!("{}/", server.url())], "{what} asks for more");
                assert!(told.complaints.is_empty(), "{what}: {:?}", told.complaints);
                assert_fits(&mut chromium, width, &what);
                open_all(&mut chromium);
                assert_fits(&mut chromium, width, &format!("{what}, everything opened,"));
                let contrast = chromium.evaluate(CONTRAST);
                assert!(contrast["texts"].as_u64().unwrap() > texts, "{what}: {contrast}");
                assert_eq!(contrast["faint"], Value::Array(Vec::new()), "{what}");
                assert_eq!(chromium.evaluate("document.scripts.length"), 0, "{what}");
            }
        }
        let back = chromium.evaluate("getComputedStyle(document.body).backgroundColor");
        chromium.dress(1280, "light");
        chromium.open(&server.url());
        assert_ne!(chromium.evaluate("getComputedStyle(document.body).backgroundColor"), back, "{name}: night is day");
    }
}

#[test]
fn the_policy_holds_what_the_page_must_not_do() {
    // Were the browser deaf, the test above would hear nothing.
    let server = Server::start(night());
    let mut chromium = Chromium::start();
    for (attempt, refused) in [
        ("document.body.insertAdjacentHTML('beforeend', '<p style=\"color:red\">x</p>')", "style-src"),
        (
            "document.head.append(Object.assign(document.createElement('style'), { textContent: 'p { color: red }' }))",
            "style-src",
        ),
        (
            "document.head.append(Object.assign(document.createElement('script'), { textContent: 'window.ran = 1' }))",
            "script-src",
        ),
        ("document.body.append(Object.assign(new Image(), { src: 'http://127.0.0.1:9/x.png' }))", "img-src"),
        ("fetch('status').catch(() => 0)", "connect-src"),
        (
            "document.body.insertAdjacentHTML('beforeend', '<form action=\"http://127.0.0.1:9/\"><button>x</button></form>'); document.querySelector('form[action]').requestSubmit()",
            "form-action",
        ),
    ] {
        chromium.open(&server.url());
        let complaints = chromium.complaints_after(attempt);
        assert!(complaints.iter().any(|each| each.contains(refused)), "{attempt}: {complaints:?}");
        assert!(chromium.evaluate("window.ran === undefined").as_bool().unwrap());
    }
}

#[test]
fn a_person_without_scripts_finds_a_certificate_among_two_thousand() {
    let server = Server::start(many(2000));
    let mut chromium = Chromium::start();
    chromium.dress(360, "light");
    chromium.open(&server.url());
    chromium.forbid_scripts(true);
    let names = "[...document.querySelectorAll('tbody .name')].map(each => each.textContent)";
    let first = chromium.evaluate(names);
    assert_eq!(first[0], "customer-0017.example.net.pem");
    assert_eq!(first.as_array().unwrap().len(), 50);
    chromium.follow("document.querySelector('a[rel=next]').click()");
    assert_eq!(chromium.evaluate("location.search + location.hash"), "?page=2#certificates");
    assert_ne!(chromium.evaluate(names), first);
    chromium.follow(
        "document.querySelector('[name=q]').value = 'CUSTOMER-1777';
         document.querySelector('[name=state]').value = 'stapled';
         document.querySelector('form button').click()",
    );
    assert_eq!(chromium.evaluate("location.search"), "?q=CUSTOMER-1777&state=stapled");
    assert_eq!(chromium.evaluate(names), serde_json::json!(["customer-1777.example.net.pem"]));
    assert_eq!(chromium.evaluate("document.querySelector('[name=q]').value"), "CUSTOMER-1777");
    // Its steps are shown by a click.
    let shown = "document.querySelector('tbody .steps').checkVisibility()";
    assert_eq!(chromium.evaluate(shown), false);
    chromium.evaluate("document.querySelector('tbody summary').click()");
    assert_eq!(chromium.evaluate(shown), true);
    chromium.follow("[...document.links].find(link => link.textContent === 'show all').click()");
    assert_eq!(chromium.evaluate("location.pathname + location.search"), "/");
    chromium.follow("document.querySelector('.parts a').click()");
    assert_eq!(
        chromium.evaluate("[location.search, document.querySelectorAll('tbody').length].join()"),
        "?state=trouble,7"
    );
    chromium.follow("document.querySelector('.counts a.warn').click()");
    assert_eq!(
        chromium.evaluate("[location.search, document.querySelectorAll('tbody').length].join()"),
        "?state=refresh_failing,5"
    );
}

#[test]
fn a_screen_reader_is_told_a_table_at_every_width() {
    let server = Server::start(night());
    let mut chromium = Chromium::start();
    for width in WIDTHS {
        chromium.dress(width, "light");
        chromium.open(&server.url());
        let nodes = chromium.accessibility();
        let count = |role: &str| nodes.iter().filter(|(each, _)| each == role).count();
        assert_eq!((count("table"), count("columnheader"), count("rowheader")), (1, 4, 10), "at {width}");
        assert_eq!(count("row"), 1 + 2 * 10, "at {width}");
        let has = |role: &str, part: &str| nodes.iter().any(|(each, name)| each == role && name.contains(part));
        assert!(has("table", "Certificates, worst first"), "at {width}");
        assert!(has("rowheader", "pay.example.com.pem"), "at {width}");
        assert!(
            has("image", "HAProxy stops serving it at 2026-11-25 09:52 UTC (in 6 h 39 min)"),
            "at {width}: {nodes:?}"
        );
        assert!(
            has("heading", "Needs attention") && has("searchbox", "Search") && has("combobox", "State"),
            "at {width}"
        );
    }
}

#[test]
fn a_browser_sees_text_where_a_certificate_has_markup() {
    let markup = "<script>window.ran = 1</script><img src=x onerror='window.ran = 2'>\"'&amp;";
    let mut certificate = stapled("a.pem", &[FIRST], 10);
    certificate.certificate = format!("/c/{}", markup.replace('/', "|")).into();
    certificate.subject = markup.into();
    certificate.issuer = format!("\u{202e}{markup}").into();
    let server = Server::start(site(vec![certificate], vec![up(FIRST)]));
    let mut chromium = Chromium::start();
    let told = chromium.open(&format!("{}/?q=%3Cscript%3Ewindow.ran%20=", server.url()));
    assert!(told.complaints.is_empty(), "{:?}", told.complaints);
    assert_eq!(told.requests.len(), 1);
    assert_eq!(
        chromium.evaluate("window.ran === undefined && document.images.length + document.scripts.length === 0"),
        true
    );
    let shown = chromium.evaluate("document.querySelector('tbody th p bdi').textContent");
    assert_eq!(shown, markup);
    let issuer = chromium.evaluate("document.querySelectorAll('tbody th p bdi')[1].textContent");
    assert_eq!(issuer, format!("\\u{{202e}}{markup}"));
    assert_eq!(chromium.evaluate("document.querySelector('[name=q]').value"), "<script>window.ran =");
}

/// `make screenshots` keeps them: SCREENSHOTS names the directory.
#[test]
fn pictures_are_taken_of_it() {
    let kept = std::env::var_os("SCREENSHOTS").map(PathBuf::from);
    let mut chromium = Chromium::start();
    for (name, status, schemes) in
        [("status", night(), &["light", "dark"][..]), ("status-2000", many(2000), &["light"][..])]
    {
        let server = Server::start(status);
        for scheme in schemes {
            // A telephone's pixels are small.
            for (width, height, scale) in [(1280, 1220, 1), (360, 1750, 2)] {
                chromium.dress(width, scheme);
                chromium.open(&server.url());
                let picture = chromium.picture(width, height, scale);
                assert!(picture.starts_with(b"\x89PNG") && picture.len() > 20_000, "{} bytes", picture.len());
                if let Some(directory) = &kept {
                    std::fs::write(directory.join(format!("{name}-{scheme}-{width}.png")), picture).unwrap();
                }
            }
        }
    }
}

#[test]
fn the_pictures_in_the_documentation_are_small() {
    let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/images");
    for scheme in ["light", "dark"] {
        for width in [1280, 360] {
            let path = images.join(format!("status-{scheme}-{width}.png"));
            let size =
                path.metadata().unwrap_or_else(|error| panic!("{}: {error}; make screenshots", path.display())).len();
            assert!(size < 200_000, "{} has {size} bytes", path.display());
        }
    }
}
