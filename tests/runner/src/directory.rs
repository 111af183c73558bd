//! The manifest directory of a case: every step that writes, moves or removes files.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::{Value, json};

use crate::case::{Form, Way};
use crate::yaml;

/// How much a slow write puts there first.
const FIRST_PART: usize = 40;
/// How long a slow write takes.
const PAUSE: Duration = Duration::from_secs(1);

/// A manifest directory.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// Outside the directory, on the same file system.
    outside: PathBuf,
    /// The last manifest of each pod that was not raw.
    manifests: BTreeMap<String, Value>,
    /// The file of each pod.
    homes: BTreeMap<String, String>,
    files: BTreeMap<String, Content>,
}

/// What a file of manifests holds.
#[derive(Debug, Clone, Default)]
struct Content {
    pods: Vec<String>,
    form: Form,
    comment: Option<String>,
}

/// A change of an existing file.
#[derive(Debug, Default)]
pub struct Edit<'a> {
    /// The container that `merge` is for.
    pub container: Option<&'a str>,
    /// A JSON merge patch (RFC 7396).
    pub merge: Option<&'a Value>,
    /// Put before the document.
    pub comment: Option<&'a str>,
    /// Write it as JSON from now on.
    pub json: bool,
    /// The whole file instead.
    pub raw: Option<&'a str>,
    /// How it is written.
    pub by: Way,
}

impl Directory {
    /// Makes `path`, and `outside` for what is moved or linked into it.
    pub fn new(path: PathBuf, outside: PathBuf, manifests: &[Value]) -> io::Result<Directory> {
        fs::create_dir_all(&path)?;
        fs::create_dir_all(&outside)?;
        let named = manifests.iter().map(|m| (name_of(m), m.clone())).collect();
        Ok(Directory { path, outside, manifests: named, homes: BTreeMap::new(), files: BTreeMap::new() })
    }

    /// The file of a pod.
    pub fn home(&self, pod: &str) -> String {
        self.homes.get(pod).cloned().unwrap_or_else(|| format!("{pod}.yaml"))
    }

    /// The pods that a file describes, as far as it can be read.
    pub fn pods_in(&self, file: &str) -> Vec<String> {
        let documents = fs::read_to_string(self.path.join(file)).ok().and_then(|text| yaml::read(&text).ok());
        let mut pods = Vec::new();
        for document in documents.unwrap_or_default() {
            let items = document["items"].as_array().cloned().unwrap_or_else(|| vec![document.clone()]);
            pods.extend(items.iter().filter_map(|item| item["metadata"]["name"].as_str()).map(str::to_owned));
        }
        pods
    }

    /// Writes pods into a file, beside those that it holds already.
    pub fn start(&mut self, pods: &[String], file: &str, form: Form, by: Way) -> io::Result<()> {
        let content = self.files.entry(file.to_owned()).or_default();
        content.form = form;
        for pod in pods {
            if !content.pods.contains(pod) {
                content.pods.push(pod.clone());
            }
            self.homes.insert(pod.clone(), file.to_owned());
        }
        self.put(file, by)
    }

    /// Removes a pod's file, or its document from a file that holds others. Returns the file.
    pub fn delete(&mut self, pod: &str) -> io::Result<String> {
        let file = self.home(pod);
        let others = match self.files.get_mut(&file) {
            Some(content) => {
                content.pods.retain(|other| other != pod);
                !content.pods.is_empty()
            }
            None => false,
        };
        if others {
            self.put(&file, Way::Write)?;
        } else {
            fs::remove_file(self.path.join(&file))?;
            self.files.remove(&file);
        }
        Ok(file)
    }

    /// Changes a pod's document in its file.
    pub fn edit(&mut self, pod: &str, edit: &Edit<'_>) -> io::Result<()> {
        let file = self.home(pod);
        if let Some(raw) = edit.raw {
            return self.write_text(&file, raw, edit.by);
        }
        if let (Some(merge), Some(manifest)) = (edit.merge, self.manifests.get_mut(pod)) {
            match edit.container {
                None => merge_patch(manifest, merge),
                Some(name) => {
                    for list in ["initContainers", "containers"] {
                        let containers = manifest["spec"].get_mut(list).and_then(Value::as_array_mut);
                        containers
                            .into_iter()
                            .flatten()
                            .filter(|c| c["name"] == name)
                            .for_each(|c| merge_patch(c, merge));
                    }
                }
            }
        }
        if let Some(content) = self.files.get_mut(&file) {
            if edit.json {
                content.form = Form::Json;
            }
            if edit.comment.is_some() {
                content.comment = edit.comment.map(str::to_owned);
            }
        }
        self.put(&file, edit.by)
    }

    /// Writes the last content of a pod's file that was not raw, also when the pod was removed from it.
    pub fn restore(&mut self, pod: &str) -> io::Result<()> {
        let file = self.home(pod);
        let content = self.files.entry(file.clone()).or_default();
        if !content.pods.iter().any(|held| held == pod) {
            content.pods.push(pod.to_owned());
        }
        self.put(&file, Way::Write)
    }

    /// Gives a pod's file a new mtime.
    pub fn touch(&self, pod: &str) -> io::Result<()> {
        OpenOptions::new().append(true).open(self.path.join(self.home(pod)))?.set_modified(SystemTime::now())
    }

    /// Writes the same bytes into a pod's file again.
    pub fn rewrite(&self, pod: &str) -> io::Result<()> {
        let path = self.path.join(self.home(pod));
        fs::write(&path, fs::read(&path)?)
    }

    /// Renames a pod's file.
    pub fn rename(&mut self, pod: &str, to: &str) -> io::Result<()> {
        let from = self.home(pod);
        fs::rename(self.path.join(&from), self.path.join(to))?;
        if let Some(content) = self.files.remove(&from) {
            for pod in &content.pods {
                self.homes.insert(pod.clone(), to.to_owned());
            }
            self.files.insert(to.to_owned(), content);
        }
        Ok(())
    }

    /// Copies a pod's file.
    pub fn copy(&self, pod: &str, to: &str) -> io::Result<()> {
        fs::copy(self.path.join(self.home(pod)), self.path.join(to)).map(|_| ())
    }

    /// Writes any file.
    pub fn write(&self, file: &str, text: &str) -> io::Result<()> {
        self.write_text(file, text, Way::Write)
    }

    /// Makes a fifo.
    pub fn mkfifo(&self, file: &str) -> io::Result<()> {
        Ok(mkfifo(&self.path.join(file), Mode::from_bits_truncate(0o644))?)
    }

    /// Makes a symlink.
    pub fn symlink(&self, file: &str, to: &str) -> io::Result<()> {
        symlink(to, self.path.join(file))
    }

    /// Removes any file.
    pub fn remove(&self, file: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(file))
    }

    /// Removes every file.
    pub fn clear(&mut self) -> io::Result<()> {
        self.files.clear();
        for entry in fs::read_dir(&self.path)? {
            let path = entry?.path();
            if path.is_dir() && !path.is_symlink() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
        }
        Ok(())
    }

    /// Renames the directory away.
    pub fn hide(&self) -> io::Result<()> {
        fs::rename(&self.path, self.hidden())
    }

    /// Renames it back, as it was.
    pub fn show(&self) -> io::Result<()> {
        fs::rename(self.hidden(), &self.path)
    }

    /// Makes it anew, empty.
    pub fn make(&mut self) -> io::Result<()> {
        self.files.clear();
        fs::create_dir(&self.path)
    }

    fn hidden(&self) -> PathBuf {
        self.outside.join("hidden")
    }

    fn put(&self, file: &str, by: Way) -> io::Result<()> {
        let Some(content) = self.files.get(file) else {
            return Err(io::Error::other(format!("{file} was never written")));
        };
        let manifests: Vec<&Value> = content.pods.iter().filter_map(|pod| self.manifests.get(pod)).collect();
        let text = match content.form {
            Form::Yaml => manifests.iter().map(|m| yaml::write(m)).collect::<Vec<_>>().join("---\n"),
            Form::List => yaml::write(&json!({"apiVersion": "v1", "kind": "List", "items": manifests})),
            // JSON has no documents: several pods are one object after the other.
            Form::Json => manifests.iter().map(|m| format!("{m:#}\n")).collect(),
        };
        let comment = content.comment.as_ref().map_or(String::new(), |comment| format!("# {comment}\n"));
        self.write_text(file, &format!("{comment}{text}"), by)
    }

    fn write_text(&self, file: &str, text: &str, by: Way) -> io::Result<()> {
        let path = self.path.join(file);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let elsewhere = self.outside.join(file.replace('/', "_"));
        match by {
            Way::Write => fs::write(path, text),
            Way::Move => {
                fs::write(&elsewhere, text)?;
                fs::rename(elsewhere, path)
            }
            Way::Slow => write_slowly(&path, text),
            Way::Symlink => {
                fs::write(&elsewhere, text)?;
                symlink(elsewhere, path)
            }
        }
    }
}

fn write_slowly(path: &Path, text: &str) -> io::Result<()> {
    let mut file = File::create(path)?;
    let (first, rest) = text.as_bytes().split_at(FIRST_PART.min(text.len()));
    file.write_all(first)?;
    sleep(PAUSE);
    file.write_all(rest)
}

fn name_of(manifest: &Value) -> String {
    manifest["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}

/// RFC 7396.
fn merge_patch(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            if let Some(map) = target.as_object_mut() {
                map.remove(key);
            }
        } else {
            merge_patch(&mut target[key], value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> (tempfile::TempDir, Directory) {
        let dir = tempfile::tempdir().expect("a directory");
        let pod = |name: &str| {
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
                "spec": {"containers": [{"name": "app", "image": "actor", "args": ["run=1"]}]}})
        };
        let made = Directory::new(dir.path().join("m"), dir.path().join("o"), &[pod("a"), pod("b")]).expect("made");
        (dir, made)
    }

    fn text(dir: &tempfile::TempDir, file: &str) -> String {
        fs::read_to_string(dir.path().join("m").join(file)).expect("readable")
    }

    #[test]
    fn documents_of_a_file_come_change_and_go() {
        let (dir, mut d) = directory();
        let both = ["a".to_owned(), "b".to_owned()];
        d.start(&both, "both.yaml", Form::Yaml, Way::Write).expect("written");
        assert_eq!(d.pods_in("both.yaml"), both);
        let merge = json!({"env": [{"name": "V", "value": "2"}], "args": null});
        d.edit("b", &Edit { container: Some("app"), merge: Some(&merge), ..Edit::default() }).expect("edited");
        let documents = yaml::read(&text(&dir, "both.yaml")).expect("YAML");
        assert_eq!(documents[0]["spec"]["containers"][0]["args"], json!(["run=1"]));
        assert_eq!(
            documents[1]["spec"]["containers"][0],
            json!({"name": "app", "image": "actor", "env": merge["env"]})
        );
        d.delete("a").expect("removed");
        assert_eq!(d.pods_in("both.yaml"), ["b"]);
        d.delete("b").expect("removed");
        assert!(!dir.path().join("m/both.yaml").exists());
    }

    #[test]
    fn what_was_removed_can_be_put_back() {
        let (dir, mut d) = directory();
        d.start(&["a".to_owned(), "b".to_owned()], "both.yaml", Form::Yaml, Way::Write).expect("written");
        d.delete("a").expect("deleted");
        d.restore("a").expect("put back");
        assert_eq!(d.pods_in("both.yaml"), ["b", "a"]);
        d.clear().expect("emptied");
        d.restore("b").expect("put back");
        assert_eq!((d.pods_in("both.yaml"), dir.path().join("m/both.yaml").exists()), (vec!["b".to_owned()], true));
    }

    #[test]
    fn forms_and_ways() {
        let (dir, mut d) = directory();
        let pods = ["a".to_owned(), "b".to_owned()];
        d.start(&pods, "list.yaml", Form::List, Way::Move).expect("written");
        let list = &yaml::read(&text(&dir, "list.yaml")).expect("YAML")[0];
        assert_eq!((&list["kind"], list["items"].as_array().map(Vec::len)), (&json!("List"), Some(2)));
        d.start(&pods[..1], "sub/a.json", Form::Json, Way::Write).expect("written");
        assert_eq!(serde_json::from_str::<Value>(&text(&dir, "sub/a.json")).expect("JSON")["kind"], "Pod");
        d.start(&pods[..1], "l.yaml", Form::Yaml, Way::Symlink).expect("linked");
        assert!(dir.path().join("m/l.yaml").is_symlink());
        d.edit("a", &Edit { comment: Some("hello"), ..Edit::default() }).expect("edited");
        assert!(text(&dir, "l.yaml").starts_with("# hello\napiVersion: v1\n"));
        d.edit("a", &Edit { raw: Some("kind: ["), ..Edit::default() }).expect("broken");
        assert_eq!(text(&dir, "l.yaml"), "kind: [");
        d.restore("a").expect("mended");
        assert_eq!(d.pods_in("l.yaml"), ["a"]);
        d.rename("a", "z.yaml").expect("renamed");
        assert_eq!(d.home("a"), "z.yaml");
        d.hide().expect("hidden");
        d.show().expect("shown");
        d.clear().expect("cleared");
        assert_eq!(fs::read_dir(dir.path().join("m")).expect("there").count(), 0);
    }
}
