//! Any conversation while a staple is brought into HAProxy: no foreign transaction is ever ended, and nothing is called
//! installed that HAProxy did not show or say.

use haproxy_stapler::haproxy::{
    self, CertIdKey, Command, Entries, Installation, IssuerKnowledge, Outcome, OverwritePolicy, Process, Proof,
    StapleView, Stapling,
};

use super::fixture::FIXTURE;
use super::script::{Exchange, Script, run};

const NAME: &str = "/etc/haproxy/certs/site.pem";
/// Far more than the longest conversation, with every command refused four times because of a lock.
const MOST_COMMANDS: usize = 80;

/// A byte of choices, then replies with a NUL between them; the first is to `show info`.
pub fn check(input: &[u8]) -> bool {
    let Some((choices, replies)) = input.split_first() else { return false };
    let fixture = &*FIXTURE;
    let (staple, id) = (fixture.staple(), CertIdKey::from(&fixture.cert_id()));
    let one = Installation {
        name: NAME,
        id: &id,
        stapling: [Stapling::On, Stapling::Off, Stapling::Unknown, Stapling::Unknown][usize::from(choices & 3)],
        issuer: if choices & 4 == 0 { IssuerKnowledge::InChain } else { IssuerKnowledge::Told(&fixture.issuer) },
        staple: StapleView::from(&staple),
        overwrite: if choices & 8 == 0 { OverwritePolicy::KeepNewer } else { OverwritePolicy::Replace },
    };
    run(async {
        let script = Script::new(replies);
        let Ok(process) = haproxy::look(&script).await else { return false };
        let mut entries = if choices & 16 == 0 { None } else { Some(Entries::default()) };
        let outcome = haproxy::reconcile(&script, &process, &mut entries, &one, fixture.now).await;
        let conversation = script.conversation();
        assert!(conversation.len() <= MOST_COMMANDS, "{} commands", conversation.len());
        hold_transactions(&conversation);
        hold_outcome(&outcome, &process, &conversation);
        !matches!(outcome, Outcome::Failed(_))
    })
}

/// HAProxy has one transaction for everyone: only one that we created is ours to end.
fn hold_transactions(conversation: &[Exchange]) {
    let mut ours: Option<String> = None;
    let question = Command::ask_for_transaction().encode("");
    // It looks like an abort, of what no certificate is called.
    for exchange in conversation.iter().filter(|exchange| exchange.sent != question) {
        let reply = exchange.reply.as_deref().unwrap_or_default();
        let command = &exchange.command;
        if let Some(name) = command.strip_prefix("commit ssl cert ").or_else(|| command.strip_prefix("abort ssl cert "))
        {
            let ours = ours.as_deref().unwrap_or_else(|| panic!("'{command}', and nothing is ours"));
            assert_eq!(unescaped(name), ours);
        } else if command.starts_with("set ssl cert ") {
            assert!(command.starts_with(&format!("set ssl cert {NAME}.")), "{command}");
            let last = reply.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
            let about = |verb: &str| last.strip_prefix(verb)?.strip_suffix('!').map(str::to_owned);
            if let Some(created) = about("Transaction created for certificate ") {
                // A second one would mean that HAProxy lost the first.
                ours.get_or_insert(created);
            } else if let Some(updated) = about("Transaction updated for certificate ") {
                ours = ours.filter(|name| *name == updated);
            }
        }
    }
}

fn unescaped(name: &str) -> String {
    let mut letters = name.chars();
    let mut text = String::new();
    while let Some(letter) = letters.next() {
        text.extend(if letter == '\\' { letters.next() } else { Some(letter) });
    }
    text
}

fn hold_outcome(outcome: &Outcome, process: &Process, conversation: &[Exchange]) {
    let is_write = |exchange: &&Exchange| exchange.command.starts_with("set ");
    let last = conversation.last().and_then(|exchange| exchange.reply.as_deref()).unwrap_or_default();
    let shows_it = || {
        let text: String = last.split_ascii_whitespace().collect();
        openssl::base64::decode_block(&text).is_ok_and(|der| der == FIXTURE.good)
    };
    match outcome {
        Outcome::AlreadyServed => {
            assert!(!conversation.iter().any(|exchange| is_write(&exchange)), "nothing was to be written");
            assert!(!process.version.shows_der() || shows_it(), "it was not shown");
        }
        Outcome::HoldsNewer(_) => assert!(!conversation.iter().any(|exchange| is_write(&exchange))),
        Outcome::Installed { enabled, proof } => {
            let writes: Vec<&Exchange> = conversation.iter().filter(is_write).collect();
            assert!(!writes.is_empty(), "nothing was written");
            assert_eq!(*proof == Proof::ReadBack, process.version.lists_entries());
            assert!(!process.version.shows_der() || shows_it(), "it was not read back");
            let commits = |exchange: &&Exchange| exchange.command.starts_with("commit ");
            let committed = conversation.iter().find(commits).and_then(|commit| commit.reply.as_deref());
            assert_eq!(*enabled, committed.is_some_and(|reply| reply.trim_end().ends_with("Success!")));
        }
        Outcome::Failed(error) => {
            assert!(!error.kind().is_empty() && !error.to_string().is_empty() && !error.remedy().is_empty());
        }
    }
}
