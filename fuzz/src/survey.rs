//! Any conversation as what HAProxy says of itself: `show info`, the survey, a held response.

use haproxy_stapler::haproxy::{self, EntryName, Held, Known, News, Survey};

use super::script::{Script, run};

/// Replies with a NUL between them, the first to `show info`, the last that is heard to a look at the first entry.
pub fn check(input: &[u8]) -> bool {
    run(async {
        let script = Script::new(input);
        let Ok(process) = haproxy::look(&script).await else { return false };
        assert!(process.is_same_as(&process));
        let Ok(survey) = haproxy::survey(&script, &process, &Known::default()).await else { return false };
        hold(&survey);
        assert_eq!(survey.entries().is_some(), process.version.lists_entries());
        assert!(survey.native_updates.is_empty() || process.version.shows_der());
        hold_repetition(input, &survey).await;

        let key = survey.entries().and_then(|entries| entries.ids().keys().next().map(|key| (*key).to_owned()));
        let Some(entry) = key.map(EntryName::Key) else { return true };
        let held = haproxy::held(&script, &process, &entry).await;
        if let Ok(Some(Held::Response(response))) = held {
            assert_eq!(response.der.is_some(), process.version.shows_der());
            if let Some(der) = &response.der {
                script.reply_next(openssl::base64::encode_block(der));
                let again = haproxy::held(&script, &process, &entry).await;
                assert_eq!(again, Ok(Some(Held::Response(response))), "the same bytes mean the same");
            }
        }
        script.conversation();
        true
    })
}

fn hold(survey: &Survey) {
    for loaded in survey.loaded() {
        assert!(!loaded.name.contains('\n'), "{loaded:?}");
        if let Some(file) = loaded.required_ocsp_file() {
            assert_ne!(file, format!("{}.ocsp", loaded.name));
        }
    }
    if let Some(entries) = survey.entries() {
        for update in entries.identify(survey.native_updates.clone()) {
            let named = update.id.as_ref().map(|id| entries.find(id));
            assert!(named.is_none_or(|name| name == Some(&EntryName::Key(update.key))));
        }
    }
}

/// The same words mean the same, and nothing new to whom they are known.
async fn hold_repetition(input: &[u8], survey: &Survey) {
    let repeat = Script::new(input);
    let process = haproxy::look(&repeat).await.expect("as before");
    assert_eq!(haproxy::survey(&repeat, &process, &Known::default()).await.as_ref(), Ok(survey));
    let News::Whole { seen: Some(seen), .. } = &survey.news else { return };
    let known = Known { seen: Some(*seen), unlisted: Vec::new() };
    let repeat = Script::new(input);
    let process = haproxy::look(&repeat).await.expect("as before");
    if let Ok(again) = haproxy::survey(&repeat, &process, &known).await {
        assert_eq!(again.news, News::Same { loaded: Vec::new() });
        assert_eq!(again.transaction_open, survey.transaction_open);
    }
}
