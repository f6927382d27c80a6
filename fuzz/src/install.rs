//! Any conversation while a staple is brought into HAProxy: no foreign transaction is ever ended, and nothing is called
//! installed that HAProxy did not show or say.

use haproxy_stapler::haproxy::{
    self, CertIdKey, Entries, Installation, IssuerKnowledge, Outcome, OverwritePolicy, Process, Proof, StapleView,
    Stapling,
};

use super::fixture::FIXTURE;
use super::script::{Exchange, Script, run};

const NAME: &str = "/etc/haproxy/certs/site.pem";
/// More names of the same certificate.
const MORE_NAMES: [&str; 2] = ["/etc/haproxy/certs/a;b.pem", "/etc/haproxy/certs/site.pem.ocsp.pem"];
const QUESTION: &str = "abort ssl cert /";
/// Far more than the longest conversation about one name, with every command refused four times because of a lock.
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
        let mut installations = vec![one];
        if choices & 32 != 0 {
            installations.extend(MORE_NAMES.map(|name| Installation { name, ..one }));
        }
        let outcomes = haproxy::reconcile_many(&script, &process, &mut entries, &installations, fixture.now).await;
        let conversation = script.conversation();
        assert_eq!(outcomes.len(), installations.len());
        assert!(conversation.len() <= MOST_COMMANDS * outcomes.len(), "{} commands", conversation.len());
        hold_transactions(&process, &conversation);
        match &outcomes[..] {
            [outcome] => hold_outcome(outcome, &process, &conversation),
            _ => outcomes.iter().for_each(|outcome| hold_one_of_many(outcome, &process, &conversation)),
        }
        outcomes.iter().any(|outcome| !matches!(outcome, Outcome::Failed(_)))
    })
}

/// HAProxy has one transaction for everyone: only what we created is ours to end, and before 3.1 none is opened but right
/// after HAProxy said that there is none.
fn hold_transactions(process: &Process, conversation: &[Exchange]) {
    let mut ours: Option<String> = None;
    let mut none_is_open = false;
    for exchange in conversation {
        let reply = exchange.reply.as_deref().unwrap_or_default();
        let last = reply.trim().lines().next_back().unwrap_or_default().trim();
        for command in exchange.commands() {
            // It looks like an abort, of what no certificate is called.
            if command == QUESTION {
                none_is_open = last == "No ongoing transaction!";
            } else if let Some(name) =
                command.strip_prefix("commit ssl cert ").or_else(|| command.strip_prefix("abort ssl cert "))
            {
                assert_eq!(Some(unescaped(name)), ours, "'{command}' about what is not ours");
            } else if let Some(name) = command.strip_prefix("set ssl cert ") {
                let name = unescaped(name);
                let of = |kind: &str| name.strip_suffix(kind).is_some_and(is_one);
                assert!(of(".ocsp") || of(".issuer"), "{command}");
                let is_first = of(".ocsp");
                assert!(!is_first || none_is_open || process.version.is_at_least(3, 1), "{command} without a question");
                // Refused because of a lock, it is tried again.
                none_is_open &= reply.contains("currently locked");
                let about = |verb: &str| last.strip_prefix(verb)?.strip_suffix('!').map(str::to_owned);
                if let Some(created) = about("Transaction created for certificate ").filter(|_| is_first) {
                    ours = Some(created);
                } else if let Some(updated) = about("Transaction updated for certificate ") {
                    // Somebody else's, and then none of ours is open.
                    ours = ours.filter(|name| !is_first && *name == updated);
                }
            }
        }
    }
}

fn is_one(name: &str) -> bool {
    name == NAME || MORE_NAMES.contains(&name)
}

fn unescaped(name: &str) -> String {
    let mut letters = name.chars();
    let mut text = String::new();
    while let Some(letter) = letters.next() {
        text.extend(if letter == '\\' { letters.next() } else { Some(letter) });
    }
    text
}

/// What is asked for together is answered together.
fn hold_one_of_many(outcome: &Outcome, process: &Process, conversation: &[Exchange]) {
    let is_shown = || {
        let base64 = openssl::base64::encode_block(&FIXTURE.good);
        conversation.iter().filter_map(|exchange| exchange.reply.as_deref()).any(|reply| {
            let text: String = reply.split_ascii_whitespace().collect();
            text.contains(&base64)
        })
    };
    match outcome {
        Outcome::AlreadyServed | Outcome::Installed { .. } if process.version.shows_der() => {
            assert!(is_shown(), "it was not shown");
        }
        Outcome::Installed { enabled: true, .. } => assert!(conversation.iter().any(|exchange| {
            exchange.command.starts_with("commit ")
                && exchange.reply.as_deref().is_some_and(|reply| reply.contains("Success!"))
        })),
        Outcome::AlreadyServed | Outcome::HoldsNewer(_) | Outcome::Installed { .. } => {}
        Outcome::Failed(error) => assert!(!error.kind().is_empty() && !error.remedy().is_empty()),
    }
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
