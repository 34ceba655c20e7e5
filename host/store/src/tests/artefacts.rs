//! Components as files: whole or not at all.

use super::versions::version;
use super::*;
use crate::artefact::failed;
use bytes::Bytes;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::Command;

fn of(component: &[u8]) -> Digest {
    Digest::of("chela 2026 component", &[component])
}

impl Bench {
    fn artefacts(&self) -> PathBuf {
        self.folder.path().join("artefacts")
    }

    fn component(&self, bytes: &[u8]) -> PathBuf {
        self.artefacts().join(of(bytes).to_string())
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.artefacts()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

#[tokio::test]
async fn a_component_is_kept_once_and_for_nobody_else() {
    let b = bench().await;
    assert_eq!(b.store.artefact(of(b"wasm")).await.unwrap(), None, "before there is a folder");
    let kept = b.store.keep_artefact(Bytes::from_static(b"wasm")).await.unwrap();
    assert_eq!(kept, of(b"wasm"));
    assert_eq!(b.store.artefact(kept).await.unwrap().unwrap(), "wasm");
    assert_eq!(b.store.artefact(of(b"other")).await.unwrap(), None);
    let mode = |path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(b.artefacts()), mode(b.component(b"wasm"))), (0o700, 0o600));
    let file = || std::fs::metadata(b.component(b"wasm")).unwrap().ino();
    let before = file();
    b.store.keep_artefact(Bytes::from_static(b"wasm")).await.unwrap();
    assert_eq!((file(), b.names()), (before, vec![kept.to_string()]), "nothing is written again");
    let b = b.crashed().await;
    assert_eq!(b.store.artefact(kept).await.unwrap().unwrap(), "wasm");
    b.store.keep_artefact(Bytes::new()).await.unwrap();
    assert_eq!(b.store.artefact(of(b"")).await.unwrap().unwrap(), "");
}

#[tokio::test]
async fn a_component_that_is_not_whole_is_said_and_put_right() {
    let b = bench().await;
    b.store.keep_artefact(Bytes::from_static(b"wasm")).await.unwrap();
    for damaged in ["was", "", "wasn", "wasm and more"] {
        std::fs::write(b.component(b"wasm"), damaged).unwrap();
        let refused = b.store.artefact(of(b"wasm")).await.unwrap_err();
        let Error::Artefact { file } = &refused else { panic!("{refused}") };
        assert_eq!(file, &b.component(b"wasm"));
        assert!(refused.to_string().contains(&file.display().to_string()), "{refused}");
        b.store.keep_artefact(Bytes::from_static(b"wasm")).await.unwrap();
        assert_eq!(b.store.artefact(of(b"wasm")).await.unwrap().unwrap(), "wasm");
    }
}

#[tokio::test]
async fn a_start_removes_what_is_half_written_and_nothing_else() {
    let b = bench().await;
    b.store.keep_artefact(Bytes::from_static(b"wasm")).await.unwrap();
    let whole = b.names();
    let half = format!("{}.7.part", of(b"half"));
    let foreign = ["notes.txt", "mine.part", &"A".repeat(64)];
    for name in foreign.into_iter().chain([half.as_str()]) {
        std::fs::write(b.artefacts().join(name), "x").unwrap();
    }
    std::fs::create_dir(b.artefacts().join(of(b"folder").to_string())).unwrap();
    let b = b.crashed().await;
    let mut wanted = whole;
    wanted.extend(foreign.map(str::to_owned));
    wanted.push(of(b"folder").to_string());
    wanted.sort();
    assert_eq!(b.names(), wanted);
    b.store.purge_versions(&tenant(), Millis(0)).await.unwrap();
    wanted.retain(|name| *name != of(b"wasm").to_string());
    assert_eq!(b.names(), wanted, "no version names the component; the rest is not ours");
}

#[tokio::test]
async fn a_component_waits_for_its_version_while_others_are_purged() {
    let b = bench().await;
    let kept = b.store.keep_artefact(Bytes::from_static(b"a")).await.unwrap();
    b.store.purge_versions(&tenant(), Millis(99)).await.unwrap();
    assert!(b.store.artefact(kept).await.unwrap().is_some(), "its version is not kept yet");
    b.store.keep_version(&tenant(), version("a", 1)).await.unwrap();
    b.store.purge_versions(&tenant(), Millis(1)).await.unwrap();
    assert!(b.store.artefact(kept).await.unwrap().is_some(), "and now it is");
}

#[tokio::test]
async fn a_folder_that_cannot_be_used_is_named() {
    let b = bench().await;
    std::fs::write(b.artefacts(), "a file").unwrap();
    for refused in [
        b.store.keep_artefact(Bytes::from_static(b"wasm")).await.map(|_| ()),
        b.store.artefact(of(b"wasm")).await.map(|_| ()),
        b.store.purge_versions(&tenant(), Millis(0)).await.map(|_| ()),
    ] {
        assert!(
            matches!(&refused, Err(Error::Files { folder, .. }) if *folder == b.artefacts()),
            "{refused:?}"
        );
    }
    let b = b.crashed().await;
    assert_eq!(std::fs::read_to_string(b.artefacts()).unwrap(), "a file", "a start does not mind it");
}

#[tokio::test]
async fn a_store_that_is_closed_or_only_read_keeps_no_component() {
    let b = bench().await;
    let beside = Store::open_beside(b.folder.path()).await.unwrap();
    assert!(matches!(beside.keep_artefact(Bytes::new()).await, Err(Error::ReadOnly)));
    let kept = b.store.keep_artefact(Bytes::from_static(b"wasm")).await.unwrap();
    assert_eq!(beside.artefact(kept).await.unwrap().unwrap(), "wasm");
    assert!(matches!(beside.purge_versions(&tenant(), Millis(0)).await, Err(Error::ReadOnly)));
    b.store.close().await.unwrap();
    assert!(matches!(b.store.keep_artefact(Bytes::new()).await, Err(Error::Closed)));
}

/// Set in the process that has no room.
const NARROW: &str = "CHELA_TEST_NARROW";

/// A limit on the size of files is a process's own, so this test runs itself again in another one.
#[tokio::test]
async fn a_full_disk_is_said_and_leaves_nothing() {
    use chela_types::{Blame, Fault, Retry};
    let full = failed(std::path::Path::new("/data/artefacts"), std::io::ErrorKind::StorageFull.into());
    assert_eq!(full.to_string(), "there is no room in the folder /data/artefacts");
    assert_eq!((full.blame(), full.retry()), (Blame::Operator, Retry::Later(Duration::ZERO)));
    if std::env::var_os(NARROW).is_none() {
        let name = "tests::artefacts::a_full_disk_is_said_and_leaves_nothing";
        let limited = "trap '' XFSZ; ulimit -f 8192; exec \"$0\" --exact \"$1\"";
        let program = std::env::current_exe().unwrap();
        let ran = Command::new("sh")
            .args(["-c", limited])
            .arg(program)
            .arg(name)
            .env(NARROW, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ran.stdout);
        assert!(ran.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    let b = bench().await;
    let large = Bytes::from(vec![7; 16 << 20]);
    let refused = b.store.keep_artefact(large.clone()).await.unwrap_err();
    assert!(matches!(&refused, Error::Full { folder, .. } if *folder == b.artefacts()), "{refused:?}");
    assert_eq!(b.names(), [""; 0]);
    assert_eq!(b.store.artefact(of(&large)).await.unwrap(), None);
    b.store.keep_artefact(Bytes::from_static(b"small")).await.unwrap();
}
