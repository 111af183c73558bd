//! Writes the records of instances, and holds those that the disk has refused until it takes them.
//!
//! What is held here is the only trace of an end that was seen: the shim tells it marked as unsaved, tries again every
//! second, says when it is written, and does not leave before. An agent that takes such a record over itself (its pod is
//! being removed) ends the shim by its cgroup.

use std::path::PathBuf;

use podwright_proto::{Event, InstanceId, Record, Unsaved, record_file};
use podwright_shim::machine::Input;
use podwright_sys::durable::{Durability, WriteError, write_atomic};
use podwright_sys::error::chain;
use podwright_sys::own::{MAX_STATE, read_regular};

use crate::clock;
use crate::event_loop::Shim;

/// Pause between attempts to write what a full or failing disk has refused: a file is made and removed again, no more.
const RETRY_NS: i64 = 1_000_000_000;

/// Records that are not on disk, and why.
#[derive(Debug, Default)]
pub(crate) struct Unwritten {
    records: Vec<(Record, Unsaved)>,
    retry_at: Option<i64>,
}

impl Unwritten {
    /// Whether all is on disk.
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// When they are to be tried again.
    pub(crate) fn retry_at(&self) -> Option<i64> {
        self.retry_at
    }

    fn find(&self, id: &InstanceId) -> Option<&(Record, Unsaved)> {
        self.records.iter().find(|(record, _)| record.id == *id)
    }

    /// Forgets an older version. Returns whether there was one.
    fn take(&mut self, id: &InstanceId) -> bool {
        let before = self.records.len();
        self.records.retain(|(record, _)| record.id != *id);
        if self.records.is_empty() {
            self.retry_at = None;
        }
        before != self.records.len()
    }

    fn put(&mut self, record: Record, why: Unsaved, now: i64) {
        self.records.push((record, why));
        self.retry_at.get_or_insert(now + RETRY_NS);
    }
}

fn unsaved(error: &WriteError) -> Unsaved {
    Unsaved { errno: error.source.raw_os_error(), message: chain(error) }
}

impl Shim {
    fn record_path(&self, id: &InstanceId) -> PathBuf {
        record_file(&self.config.records, id)
    }

    fn write_record(&self, record: &Record, durability: Durability) -> Result<(), Unsaved> {
        let path = self.record_path(&record.id);
        let directory = path.parent().unwrap_or(&path);
        let made = std::fs::create_dir_all(directory).map_err(|source| WriteError {
            path: directory.to_owned(),
            step: "create",
            source,
        });
        made.map_err(|error| unsaved(&error))?;
        let text = serde_json::to_vec(record).map_err(|error| Unsaved { errno: None, message: error.to_string() })?;
        write_atomic(&path, &text, durability).map_err(|error| unsaved(&error))
    }

    /// An instance that the machine does not know may still have a record, of an earlier sandbox or long ago.
    ///
    /// # Errors
    /// There is one, or may be, and what it tells cannot be read.
    pub(crate) fn known_record(&self, id: &InstanceId) -> Result<Option<Box<Record>>, String> {
        if let Some((record, _)) = self.unwritten.find(id) {
            return Ok(Some(Box::new(record.clone())));
        }
        let path = self.record_path(id);
        let text = match read_regular(&path, MAX_STATE) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("its record {} cannot be read: {error}", path.display())),
        };
        let record = serde_json::from_slice(&text);
        record.map(Some).map_err(|error| format!("it has a record {} that is damaged: {error}", path.display()))
    }

    /// Nothing is started that is not known after a crash: else its number would be used twice, and its end be nobody's.
    pub(crate) fn record_start(&mut self, record: Record) {
        let id = record.id.clone();
        // What may have run is not run again, and its record not written over.
        let result = match self.known_record(&id) {
            Ok(None) => self.write_record(&record, Durability::Rename).map_err(|why| why.message),
            Ok(Some(_)) => Err("it has a record already".to_owned()),
            Err(message) => Err(message),
        };
        if let Err(message) = &result {
            crate::say(format_args!("{}/{} is not started: {message}", id.container, id.attempt));
            self.sites.retain(|site| site.request.id != id);
        }
        self.inputs.push_back(Input::Recorded { id, result });
    }

    /// A disk that refuses must not hang the pod: the event goes out, and the record is tried again until it is written.
    pub(crate) fn persist(&mut self, record: Record, durability: Durability) {
        // What waits of it is older, and must not be written over this one.
        let waited = self.unwritten.take(&record.id);
        let name = format!("{}/{}", record.id.container, record.id.attempt);
        match self.write_record(&record, durability) {
            Ok(()) if waited => {
                crate::say(format_args!("the record of {name} is written"));
                self.send(&Event::Instance(Box::new(record)));
            }
            Ok(()) => {}
            Err(why) => {
                if !waited {
                    crate::say(format_args!("the record of {name} is not written yet: {}", why.message));
                }
                self.unwritten.put(record, why, clock::now().boot_ns);
            }
        }
    }

    /// Tells an instance, and whether what is told may be lost yet.
    pub(crate) fn announce(&mut self, mut record: Box<Record>) {
        record.unsaved = self.unwritten.find(&record.id).map(|(_, why)| why.clone());
        self.send(&Event::Instance(record));
    }

    /// What the machine remembers, and what it has forgotten already while the disk refused it.
    pub(crate) fn all_records(&self) -> Vec<Record> {
        let mut records = self.machine.records();
        for record in &mut records {
            record.unsaved = self.unwritten.find(&record.id).map(|(_, why)| why.clone());
        }
        for (record, why) in &self.unwritten.records {
            if !self.machine.knows(&record.id) {
                records.push(Record { unsaved: Some(why.clone()), ..record.clone() });
            }
        }
        records
    }

    /// Tries again what is due.
    pub(crate) fn retry_writes(&mut self, now: i64) {
        if self.unwritten.retry_at.is_some_and(|at| at <= now) {
            let records: Vec<Record> = self.unwritten.records.iter().map(|(record, _)| record.clone()).collect();
            self.unwritten.retry_at = None;
            for record in records {
                self.persist(record, Durability::Synced);
            }
            if !self.unwritten.is_empty() {
                self.unwritten.retry_at = Some(now.saturating_add(RETRY_NS));
            }
        }
    }
}
