use std::fs::Permissions;

use super::*;

/// A directory of its own, removed afterwards.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("weir-tls-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn tls(&self) -> PathBuf {
        self.0.join("tls")
    }

    fn certificate(&self) -> PathBuf {
        self.tls().join("cert.pem")
    }

    fn key(&self) -> PathBuf {
        self.tls().join("key.pem")
    }

    fn load(&self) -> Result<TlsIdentity, TlsError> {
        TlsIdentity::load(&self.tls(), None, None)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn the_pin_is_the_sha256_of_the_certificate() {
    assert_eq!(
        pin_of(&CertificateDer::from(b"abc".to_vec())),
        "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
}

#[test]
fn the_first_start_makes_a_certificate_and_later_starts_keep_it() {
    let directory = Directory::new();
    let first = directory.load().unwrap();
    let second = directory.load().unwrap();

    assert_eq!(first.pin(), second.pin());
    assert!(first.is_self_signed() && second.is_self_signed());
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(directory.key()), 0o600);
    assert_eq!(mode(directory.tls()), 0o700);
    let files: Vec<_> =
        fs::read_dir(directory.tls()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(files.len(), 2, "nothing else is left there: {files:?}");

    let der = read_chain(&directory.certificate()).unwrap();
    assert_eq!(first.pin(), pin_of(&der[0]));
}

#[test]
fn two_brokers_have_different_certificates() {
    assert_ne!(Directory::new().load().unwrap().pin(), Directory::new().load().unwrap().pin());
}

#[test]
fn a_first_start_that_was_interrupted_is_made_up_for() {
    let directory = Directory::new();
    directory.load().unwrap();
    fs::remove_file(directory.certificate()).unwrap();
    fs::write(directory.tls().join("cert.pem.new"), "half a certif").unwrap();

    let made = directory.load().unwrap();
    assert_eq!(made.pin(), directory.load().unwrap().pin());
}

#[test]
fn a_lost_key_is_not_replaced_in_silence() {
    let directory = Directory::new();
    directory.load().unwrap();
    fs::remove_file(directory.key()).unwrap();

    let error = directory.load().unwrap_err();
    assert!(matches!(&error, TlsError::KeyMissing { key, .. } if *key == directory.key()), "{error}");
    assert!(error.to_string().contains("cert.pem"), "{error}");
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let directory = Directory::new();
    directory.load().unwrap();
    fs::set_permissions(directory.key(), Permissions::from_mode(0o640)).unwrap();

    let error = directory.load().unwrap_err();
    assert!(matches!(error, TlsError::KeyExposed { mode: 0o640, .. }), "{error}");
    assert!(error.to_string().contains("mode 640"), "{error}");
}

#[test]
fn a_given_certificate_is_used() {
    let given = Directory::new();
    let pin = given.load().unwrap().pin();
    let own = Directory::new();

    let identity = TlsIdentity::load(&own.tls(), Some(&given.certificate()), Some(&given.key())).unwrap();

    assert_eq!(identity.pin(), pin);
    assert!(!identity.is_self_signed());
    assert!(!own.tls().exists(), "no other certificate is made");
}

#[test]
fn a_certificate_or_key_alone_is_refused() {
    let directory = Directory::new();
    let file = directory.0.join("some.pem");
    for (certificate, key, given) in [(Some(&*file), None, "certificate"), (None, Some(&*file), "key")] {
        let error = TlsIdentity::load(&directory.tls(), certificate, key).unwrap_err();
        assert!(error.to_string().contains(given), "{error}");
    }
}

#[test]
fn files_that_are_no_certificate_or_no_key_are_named() {
    let directory = Directory::new();
    directory.load().unwrap();
    let (empty, garbage, absent) =
        (directory.0.join("empty.pem"), directory.0.join("garbage.pem"), directory.0.join("absent.pem"));
    fs::write(&empty, "").unwrap();
    fs::write(&garbage, "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n").unwrap();

    for bad in [&empty, &garbage, &absent, &directory.key()] {
        let error = TlsIdentity::load(&directory.tls(), Some(bad), Some(&directory.key())).unwrap_err();
        assert!(error.to_string().contains(&*bad.to_string_lossy()), "{error}");
    }
    for bad in [&empty, &garbage, &absent, &directory.certificate()] {
        let error =
            TlsIdentity::load(&directory.tls(), Some(&directory.certificate()), Some(bad)).unwrap_err();
        assert!(error.to_string().contains(&*bad.to_string_lossy()), "{error}");
    }
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let (left, right) = (Directory::new(), Directory::new());
    left.load().unwrap();
    right.load().unwrap();

    let error = TlsIdentity::load(&left.tls(), Some(&left.certificate()), Some(&right.key())).unwrap_err();
    assert!(matches!(error, TlsError::Unusable { .. }), "{error}");
}

#[test]
fn an_unwritable_place_is_named() {
    let directory = Directory::new();
    fs::write(directory.tls(), "a file in the place of the directory").unwrap();

    let error = directory.load().unwrap_err();
    assert!(matches!(&error, TlsError::File { path, .. } if path.starts_with(directory.tls())), "{error}");
}

#[test]
fn the_key_does_not_show() {
    let directory = Directory::new();
    let shown = format!("{:?}", directory.load().unwrap());
    let key = fs::read_to_string(directory.key()).unwrap();
    let line = key.lines().nth(1).unwrap();
    assert!(shown.contains("sha256:") && !shown.contains(line) && !shown.contains("PRIVATE"), "{shown}");
}
