//! Readings for those who need them: subjects that sent spans of late, and whoever asks right now.

use std::collections::VecDeque;

use super::handle::Cover;
use super::roster::{Group, Roster};
use super::sampler::{SWEEP_EVERY, Sampler, answer, nanoseconds};
use super::watch::Name;
use crate::model::{ContainerKey, Mono, Subject};
use crate::runtime::clock::mono_now;

/// Least time between readings of one group that were asked for: those who ask sooner wait and share one.
const COVER_SPACING_NS: u64 = 500_000;

/// A subject that sent a span counts as active for so long.
const ACTIVE_NS: u64 = 60_000_000_000;

impl Sampler {
    /// Subjects whose windows were asked for of late are active.
    pub(super) fn renew_active(&mut self, now: Mono) {
        let asked = self.node.history().asked_since(now.minus(nanoseconds(SWEEP_EVERY) * 2));
        for subject in asked {
            if let Subject::Task(task) = subject {
                self.renew_threads(task, now);
            }
            self.roster.want(subject, now.plus(ACTIVE_NS));
        }
        let Roster { active, cells, processes, .. } = &mut self.roster;
        active.retain(|group, until| {
            let there = match group {
                Group::Container(key) => cells.contains_key(key),
                Group::Lone(pid) => processes.contains_key(pid),
            };
            there && *until >= now
        });
    }

    /// Reads who is active.
    pub(super) fn tick(&mut self, now: Mono) {
        let spacing = nanoseconds(self.settings.resolution) / 2;
        let (mut groups, mut moved) = (std::mem::take(&mut self.groups), std::mem::take(&mut self.moved));
        groups.clear();
        moved.clear();
        groups.extend(self.roster.active.keys());
        let mut news = false;
        for group in groups.iter().copied() {
            let due = now.since(self.roster.read_at(group)) >= spacing;
            let Group::Container(key) = group else {
                moved.extend(due.then_some(group));
                continue;
            };
            match self.stands_still(key) {
                Some(at) if due => {
                    self.write_still(key, at, false);
                    self.tick_threads(group);
                }
                Some(_) => {}
                None => {
                    news = self.find_new_members(key) || news;
                    moved.extend(due.then_some(group));
                }
            }
        }
        if news || !self.roster.gone.is_empty() {
            self.place();
        }
        for group in moved.iter().copied() {
            self.read_group(group, false);
            self.tick_threads(group);
        }
        (self.groups, self.moved) = (groups, moved);
        self.flush();
    }

    /// Answers those who asked for readings: each group is read once for all of them.
    pub(super) fn serve(&mut self, now: Mono) {
        if self.waiting.is_empty() {
            return;
        }
        let (due, later): (VecDeque<Cover>, VecDeque<Cover>) =
            std::mem::take(&mut self.waiting).into_iter().partition(|cover| self.cover_due(cover) <= now);
        self.waiting = later;
        if due.iter().any(|cover| self.names_unopened(cover)) {
            self.look_around();
        }
        for cover in &due {
            for subject in &cover.subjects {
                self.roster.want(*subject, now.plus(ACTIVE_NS));
                self.watch_closely(*subject);
                self.freshen(*subject, cover.until);
            }
        }
        let names: Vec<Name> = due.iter().flat_map(|cover| cover.threads.iter().copied()).collect();
        let tasks = self.serve_threads(&names);
        self.tell_open(&due, tasks);
        self.flush();
        answer(due.into_iter().map(|cover| cover.done));
    }

    /// Shorter waits of whoever sends spans are told one by one.
    fn watch_closely(&mut self, subject: Subject) {
        if let Some(feed) = &mut self.feed
            && let Some(Group::Container(key)) = self.roster.group(subject)
        {
            feed.watch_closely(key);
        }
    }

    /// Waits in progress of those who are asked for: told before what ended since is written down.
    fn tell_open(&mut self, due: &VecDeque<Cover>, tasks: Vec<Subject>) {
        let Some(feed) = &mut self.feed else { return };
        let subjects: Vec<Subject> = due.iter().flat_map(|cover| cover.subjects.iter().copied()).chain(tasks).collect();
        feed.tell_open(mono_now(), &subjects, &self.roster, &mut self.node.history_mut());
    }

    /// When a request may be served: not sooner than its groups may be read again.
    pub(super) fn cover_due(&self, cover: &Cover) -> Mono {
        if self.names_unopened(cover) {
            return self.rescan_due();
        }
        let stale = cover.subjects.iter().filter(|subject| self.is_stale(**subject, cover.until));
        let groups = stale.filter_map(|subject| self.roster.group(*subject));
        groups.map(|group| self.roster.read_at(group).plus(COVER_SPACING_NS)).max().unwrap_or(Mono(0))
    }

    /// Whether a container in it lives by the index's word (the runtime just told of it), but was not met here yet.
    fn names_unopened(&self, cover: &Cover) -> bool {
        cover.subjects.iter().any(|subject| match subject {
            Subject::Container(key) => !self.roster.cells.contains_key(key) && self.is_counted(*key),
            Subject::Process(_) | Subject::Task(_) => false,
        })
    }

    fn is_counted(&self, key: ContainerKey) -> bool {
        let index = self.node.index();
        index.is_live(key) && index.container(key).is_some_and(|container| !container.sandbox)
    }

    fn is_stale(&self, subject: Subject, until: Mono) -> bool {
        self.roster.recorded_at(subject).is_some_and(|recorded_at| recorded_at < until)
    }

    /// Reads a subject's group unless the subject was recorded since `until`.
    fn freshen(&mut self, subject: Subject, until: Mono) {
        if self.is_stale(subject, until)
            && let Some(group) = self.roster.group(subject)
        {
            self.read_group(group, false);
        }
    }
}
