//! The end of a run: everybody behaves, and everything must come back by itself.

use std::time::Duration;

use haproxy_stapler::status::{State, Status};
use jiff::SignedDuration;

use super::director::{Director, Failure};
use super::pool::{KINDS, POOL, Shape};
use super::scripted_haproxy::Version;
use super::site::Content;
use super::stage::{Scene, Trouble};

impl Director {
    /// Ends everything, and insists that all is well in time.
    pub(super) async fn heal(&mut self) -> Result<(), Failure> {
        self.stage.scene().note(format_args!("from now on everybody behaves"));
        self.end_all().await;
        {
            let mut scene = self.stage.scene();
            scene.life.doom = None;
            for machine in &mut scene.machines {
                machine.losses = 0;
                machine.trouble = Trouble::None;
            }
            scene.end_what_nobody_knows();
        }
        self.start_program();
        // Whatever is refreshed, read back or thought over is so by then.
        let patience = self.pace.refresh * 2 + self.pace.look * 60 + Duration::from_secs(2 * 3600);
        let end = self.stage.scene().at() + patience;
        loop {
            self.pass(self.pace.scan).await?;
            let Some(status) = self.status() else { continue };
            let mut scene = self.stage.scene();
            match scene.ailment(&status) {
                None => return Ok(()),
                Some(ailment) if scene.at() > end => scene.broke(format_args!("9: it does not heal: {ailment}")),
                Some(_) => {}
            }
        }
    }
}

impl Scene {
    /// A transaction that the program was killed in, and could not write down, is a person's to end.
    fn end_what_nobody_knows(&mut self) {
        for machine in 0..self.machines.len() {
            let open = self.machines[machine].haproxy.transaction();
            if let Some((name, _)) = open.filter(|_| self.oracle.is_unknown(machine, self.life.number)) {
                self.strangers_command(machine, &format!("abort ssl cert {name}\n"));
            }
        }
    }

    /// What is not well.
    fn ailment(&mut self, status: &Status) -> Option<String> {
        if let Some(trouble) = status.troubles.first() {
            return Some(format!("{trouble}"));
        }
        for (machine, haproxy) in status.haproxy.iter().enumerate() {
            if haproxy.up != Some(true) || haproxy.trouble.is_some() {
                return Some(format!("haproxy {machine}: {haproxy:?}"));
            }
            if let Some((name, owner)) = self.machines[machine].haproxy.transaction() {
                return Some(format!("haproxy {machine}: {owner:?} has a transaction open on {name}"));
            }
        }
        let ill = self.site.used().find_map(|place| self.ailment_of(place, status));
        ill.or_else(|| {
            let journal =
                self.site.state_files().into_iter().find(|path| path.extension().is_some_and(|end| end == "journal"));
            journal.map(|_| "a journal is left".to_owned())
        })
    }

    fn ailment_of(&mut self, place: usize, status: &Status) -> Option<String> {
        let (wall, name, file) = (self.wall() + SignedDuration::from_secs(60), self.name(place), KINDS[place].file);
        let known = self.site.places[place]?;
        if known.content != Content::Whole {
            return Some(format!("{file} is {:?}", known.content));
        }
        let row = status.certificates.iter().find(|row| *row.certificate == *name)?;
        let revoked = self.authorities.is_revoked(known.leaf);
        // Nobody has asked since.
        let untold = revoked && row.state == State::Stapled && !self.oracle.knows_revocation(known.leaf);
        let withheld = revoked && self.oracle.withholds();
        let loaded = self.machines.iter().enumerate().filter(|(_, machine)| {
            machine.haproxy.certificate(&name).as_deref() == Some(POOL.leaves[known.leaf].der())
        });
        let loaded: Vec<usize> = loaded.map(|(index, _)| index).collect();
        let expected = match (KINDS[place].hosts.is_empty(), revoked) {
            // It was renewed and not reloaded, or was away when HAProxy started.
            _ if loaded.len() < self.machines.len() => return None,
            (true, _) => State::NoResponder,
            (false, true) if untold => State::Stapled,
            (false, true) => State::Revoked,
            (false, false) => State::Stapled,
        };
        if row.state != expected {
            return Some(format!("{file} is {:?} and should be {expected:?}: {}", row.state, row.detail));
        }
        let fit = |der: &[u8]| {
            self.authorities.statement(der).is_some_and(|one| one.leaf == known.leaf && one.is_acceptable(wall))
        };
        for machine in loaded.iter().filter(|_| !KINDS[place].hosts.is_empty() && !withheld) {
            // What these were given by somebody they do not show, and it stays until the next refresh.
            let mute = self.machines[*machine].haproxy.version() <= Version::V2_6;
            if mute && self.oracle.is_meddled_with(*machine, place) {
                continue;
            }
            let staple = self.machines[*machine].haproxy.staple(&name);
            if !staple.is_some_and(|der| fit(&der)) {
                return Some(format!("haproxy {machine} serves nothing good for {file}"));
            }
        }
        let kept = std::fs::read(self.site.ocsp(place)).ok();
        let keeps =
            !self.oracle.keeps_no_files() && KINDS[place].shape != Shape::Orphan && !KINDS[place].hosts.is_empty();
        match kept {
            // What somebody put there is theirs; where nothing is to be kept, it is not replaced either.
            Some(_) if withheld && self.is_file_meddled_with(place) => None,
            Some(der) if !fit(&der) && keeps => Some(format!("{file}.ocsp holds nothing good")),
            None if keeps && !withheld => Some(format!("there is no {file}.ocsp")),
            _ => None,
        }
    }
}
