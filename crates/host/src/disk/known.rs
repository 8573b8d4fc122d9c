//! Digests of images that were read before, so that a large one is not read as
//! a whole each time a guest starts.
//!
//! What is trusted here: the kernel's word that the files were not changed
//! since (`Stamps::key`), and the user's own cache directory. A recording that
//! is begun on that word is no weaker as evidence: each replay reads the image
//! and compares. But whoever can forge the word can make a recording whose disk
//! is not to be found, so a user may have the image read anyway.

use std::fs;
use std::path::PathBuf;

use seal::{Digest, Digester};

use super::{Error, Image, Progress};

/// The digests that one user has come to know.
#[derive(Clone, Debug)]
pub struct Known(Option<PathBuf>);

impl Known {
    /// Those of the person who runs the command: in the user's cache directory,
    /// if there is one.
    pub fn of_the_user() -> Known {
        let set = |name| {
            let value = std::env::var_os(name).filter(|value| !value.is_empty());
            value.map(PathBuf::from)
        };
        let cache = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
        Known(cache.map(|cache| cache.join("revirt/disks")))
    }

    /// Those in the directory `folder`.
    pub fn at(folder: PathBuf) -> Known {
        Known(Some(folder))
    }

    /// The digest of `image`, if it is known and the files are as they were.
    pub fn digest_of(&self, image: &Image) -> Option<Digest> {
        let key = image.stamps().key()?;
        let text = fs::read_to_string(self.path(key)?).ok()?;
        let (digest, check) = text.trim_end().split_once(' ')?;
        let digest = digest.parse().ok()?;
        (check == self::check(key, digest).to_string()).then_some(digest)
    }

    /// Reads `image` as a whole, and knows its digest from then on. That it
    /// can't be kept is no trouble: the image is then read again.
    pub fn learn(&self, image: &Image, progress: Progress<'_>) -> Result<Digest, Error> {
        let key = image.stamps().key();
        let digest = image.digest(progress)?;
        // Not what was changed and changed back meanwhile.
        if let Some(key) = key.filter(|key| image.stamps().key() == Some(*key)) {
            self.keep(key, digest);
        }
        Ok(digest)
    }

    fn keep(&self, key: Digest, digest: Digest) -> Option<()> {
        let path = self.path(key)?;
        let folder = path.parent()?;
        fs::create_dir_all(folder).ok()?;
        let text = format!("{digest} {}\n", check(key, digest));
        // Whole or not at all, whoever else writes it.
        let file = tempfile::NamedTempFile::new_in(folder).ok()?;
        fs::write(file.path(), text).ok()?;
        file.persist(path).ok().map(drop)
    }

    fn path(&self, key: Digest) -> Option<PathBuf> {
        let folder = self.0.as_ref()?;
        Some(folder.join(key.to_string()))
    }
}

/// Tells a damaged file from a good one.
fn check(key: Digest, digest: Digest) -> Digest {
    let mut digester = Digester::for_purpose("ReVirt disk: a known digest");
    digester.feed(&key.0);
    digester.feed(&digest.0);
    digester.digest()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt as _;
    use std::path::Path;
    use std::time::Duration;

    use super::*;

    /// An image that is old enough for its times to tell of a change.
    fn image(folder: &Path) -> PathBuf {
        let path = folder.join("image");
        fs::write(&path, [7; 4096]).expect("there is room");
        std::thread::sleep(Duration::from_millis(3100));
        path
    }

    fn open(path: &Path) -> Image {
        Image::open(path, None).expect("an image")
    }

    fn learn(known: &Known, path: &Path) -> Digest {
        let digest = known.learn(&open(path), &mut |_, _| ());
        digest.expect("it can be read")
    }

    #[test]
    fn a_digest_is_known_until_the_image_changes_even_if_its_date_is_set_back() {
        let folder = tempfile::tempdir().expect("there is room");
        let path = image(folder.path());
        let known = Known::at(folder.path().join("known"));
        assert_eq!(known.digest_of(&open(&path)), None);
        let digest = learn(&known, &path);
        assert_eq!(known.digest_of(&open(&path)), Some(digest));

        let file = File::options()
            .write(true)
            .open(&path)
            .expect("it is there");
        let date = file.metadata().and_then(|found| found.modified());
        file.write_all_at(b"x", 100).expect("there is room");
        file.set_modified(date.expect("files have dates"))
            .expect("it is ours");
        std::thread::sleep(Duration::from_millis(3100));
        assert_eq!(known.digest_of(&open(&path)), None);
    }

    #[test]
    fn what_was_just_written_is_not_kept() {
        let folder = tempfile::tempdir().expect("there is room");
        let path = folder.path().join("image");
        fs::write(&path, [7; 4096]).expect("there is room");
        let known = Known::at(folder.path().join("known"));
        learn(&known, &path);
        assert!(!folder.path().join("known").exists());
    }

    #[test]
    fn what_is_damaged_or_can_t_be_kept_is_not_known() {
        let folder = tempfile::tempdir().expect("there is room");
        let path = image(folder.path());
        let place = folder.path().join("known");
        let known = Known::at(place.clone());
        learn(&known, &path);
        let entry = fs::read_dir(&place).expect("it is there").next();
        let entry = entry.expect("one is known").expect("it can be read").path();
        let text = fs::read_to_string(&entry).expect("it is text");
        let flipped = if text.starts_with('0') { "1" } else { "0" };
        fs::write(&entry, format!("{flipped}{}", &text[1..])).expect("there is room");
        assert_eq!(known.digest_of(&open(&path)), None);

        let nowhere = Known::at(path.join("below a file"));
        let digest = learn(&nowhere, &path);
        assert_eq!(digest, Digest::of(&[7; 4096]));
        assert_eq!(nowhere.digest_of(&open(&path)), None);
    }
}
