use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::identity::api_keys::NewKey;
use std::num::NonZeroU32;

const HASH: &str = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";

fn key(rest: &str) -> String {
    format!("[[api_keys]]\nname = \"billing\"\nsha256 = \"{HASH}\"\n{rest}")
}

#[test]
fn a_whole_file_is_read() {
    let text = format!(
        "{}\ncustomer = \"c-1\"\nexpires = 2027-01-31T00:00:00Z\n\
         [jwt]\njwks = \"keys.json\"\nissuer = \"https://issuer.example\"\naudience = [\"orders\", \"shop\"]\n\
         algorithms = [\"ES256\", \"EdDSA\"]\nleeway_seconds = 5\nmax_lifetime_seconds = 900\n\
         [[certificates]]\nsubject = \"CN=ops\"\nname = \"ops\"\nroles = [\"operator\"]\n\
         [[certificates]]\nsan = \"dns:shop.internal\"\nname = \"shop\"\nroles = [\"writer\", \"reader\"]\n\
         [limits.role.customer]\nrate = 10\nburst = 20\ncommands_in_flight = 4\nstreams = 2\n\
         [limits.name.shop]\nrate = 1000\n",
        key("roles = [\"customer\"]")
    );
    let file = IdentityFile::parse(&text).unwrap();
    let [entry] = file.api_keys.as_slice() else { panic!("one key") };
    assert_eq!(entry.principal.customer().unwrap().as_str(), "c-1");
    assert_eq!(entry.expires, Some(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_801_353_600)));
    assert_eq!(entry.sha256, Hash::of("foo"));
    let jwt = file.jwt.unwrap();
    assert_eq!((jwt.audience.len(), jwt.leeway_seconds, &*jwt.name_claim), (2, 5, "sub"));
    assert_eq!(jwt.max_lifetime_seconds.map(NonZeroU64::get), Some(900));
    assert_eq!(file.certificates.len(), 2);
    assert_eq!(file.limits.role[&Role::Customer].streams, NonZeroU32::new(2));
    assert_eq!(file.limits.name["shop"].rate, NonZeroU32::new(1_000));
}

/// API keys of the name "shop", one for each of `customers`, and a certificate of that name for `certified`, if it names a customer.
fn of_customers(customers: &[&str], certified: &str) -> String {
    let entry = |(index, customer): (usize, &&str)| {
        let hash = Hash::of(&index.to_string()).to_hex();
        format!(
            "[[api_keys]]\nname = \"shop\"\nroles = [\"customer\"]\ncustomer = \"{customer}\"\nsha256 = \"{hash}\"\n"
        )
    };
    let certificate = format!(
        "[[certificates]]\nsubject = \"CN=shop\"\nname = \"shop\"\nroles = [\"customer\"]\ncustomer = \"{certified}\"\n"
    );
    let keys: String = customers.iter().enumerate().map(entry).collect();
    if certified.is_empty() { keys } else { keys + &certificate }
}

#[test]
fn a_name_may_have_several_credentials_of_one_customer() {
    let file = IdentityFile::parse(&of_customers(&["b", "b"], "b")).unwrap();
    assert_eq!((file.api_keys.len(), file.certificates.len()), (2, 1));
}

#[test]
fn the_same_hash_may_be_written_in_base64() {
    let base64 = "LCa0a2j/xo/5m0U8HTBBNBNCLXBkg7+g+YpeiGJm564=";
    let text = key("roles = [\"reader\"]").replace(HASH, base64);
    assert_eq!(IdentityFile::parse(&text).unwrap().api_keys[0].sha256, Hash::of("foo"));
}

#[test]
fn a_mistake_is_named_with_its_line() {
    let jwt = "[jwt]\njwks = \"k\"\nissuer = \"i\"\naudience = \"a\"\n";
    for (text, said) in [
        (key("roles = [\"writr\"]"), "line 4: unknown variant `writr`"),
        (key("roles = []"), "line 4: roles must name at least one role"),
        (key("roles = [\"reader\"]\nrole = 1"), "unknown field `role`"),
        (key("roles = [\"customer\"]"), "has the role customer and no customer id: add customer = \"ID\""),
        (key("roles = [\"reader\"]\ncustomer = \"c\""), "has a customer id without the role customer"),
        (key("roles = [\"reader\"]\nexpires = \"soon\""), "line 5"),
        (
            key("roles = [\"reader\"]\nexpires = 2027-01-31"),
            "line 5: '2027-01-31' is not a date and time with an offset",
        ),
        (key("").replace(HASH, "abc"), "line 3: sha256 must be the hash"),
        (key("roles = [\"reader\"]").replace("billing", " "), "line 2: the name must not be empty"),
        (key("roles = [\"reader\"]").replace("billing", "bil\u{200B}ling"), "line 2: the name must not contain"),
        (key("roles = [\"customer\"]\ncustomer = \"ad\u{202E}a\""), "line 5: the customer id must not contain"),
        (
            "[[certificates]]\nsubject = \"CN=a\"\nname = \"a\u{AD}\"\nroles = [\"reader\"]\n".to_owned(),
            "line 3: the name must not contain",
        ),
        (
            format!("{}\n[limits.name.\"bil\u{200B}ling\"]\nrate = 1", key("roles = [\"reader\"]")),
            "limits: the name must not contain",
        ),
        (
            format!("{}\n{}", key("roles = [\"reader\"]"), key("roles = [\"reader\"]")),
            "the key of 'billing' is there twice",
        ),
        (of_customers(&["b", "c"], ""), "'shop' is the customer b and the customer c: give each its own name"),
        (of_customers(&["b"], "c"), "'shop' is the customer b and the customer c"),
        (format!("{jwt}algorithms = [\"HS256\"]"), "line 5: unknown variant `HS256`"),
        (format!("{jwt}algorithms = [\"none\"]"), "line 5: unknown variant `none`"),
        (format!("{jwt}algorithms = []"), "line 5: algorithms must name at least one"),
        (format!("{jwt}algorithms = [\"ES256\"]\nleeway_seconds = 301"), "line 6: leeway_seconds must be at most 300"),
        (format!("{jwt}algorithms = [\"ES256\"]\nmax_lifetime_seconds = 0"), "line 6"),
        ("[jwt]\njwks = \"k\"\n".to_owned(), "missing field `issuer`"),
        (format!("{}algorithms = [\"ES256\"]", jwt.replace("\"i\"", "\"\"")), "line 3: issuer must not be empty"),
        ("[[certificates]]\nname = \"a\"\nroles = [\"reader\"]\n".to_owned(), "needs either subject or san"),
        (format!("{}\n[limits.role.boss]\nrate = 1", key("roles = [\"reader\"]")), "unknown variant `boss`"),
        (format!("{}\n[limits.name.a]\nburst = 1", key("roles = [\"reader\"]")), "burst needs rate"),
        (format!("{}\n[limits.name.a]\nrate = 0", key("roles = [\"reader\"]")), "line 6"),
        (String::new(), "it names no caller"),
        ("[keys]\n".to_owned(), "unknown field `keys`"),
    ] {
        let why = IdentityFile::parse(&text).unwrap_err();
        assert!(why.contains(said), "{text}\n=> {why}");
        assert!(!why.contains('\n'), "one line: {why}");
    }
}

#[test]
fn a_key_in_the_wrong_place_is_not_repeated() {
    let secret = NewKey::draw().unwrap();
    let secret = secret.as_str();
    let jwt = "[jwt]\njwks = \"k\"\nissuer = \"i\"\naudience = \"a\"\n";
    for (text, said) in [
        (key(&format!("roles = [\"{secret}\"]")), "line 4: "),
        (key(&format!("roles = \"{secret}\"")), "line 4: "),
        (key(&format!("roles = [\"reader\"]\nexpires = \"{secret}\"")), "line 5: "),
        (key(&format!("roles = [\"reader\"]\nexpires = {secret}")), "line 5: "),
        (key(&format!("roles = [\"reader\"]\n{secret} = 1")), "line 5: unknown field `***`"),
        (key(&format!("roles = [\"reader\"]\n{secret}")), "line 5: "),
        (key("roles = [\"reader\"]").replace(HASH, secret), "line 3: sha256 must be the hash of a key"),
        (key("").replace("billing", &format!("{secret}\u{200B}")), "line 2: the name must not contain"),
        (format!("[[api_keys]]\nname = \"{secret}\"\nroles = [\"customer\"]\nsha256 = \"{HASH}\"\n"), "no customer id"),
        (format!("{jwt}algorithms = [\"{secret}\"]"), "line 5: "),
        (format!("{jwt}algorithms = [\"ES256\"]\nleeway_seconds = \"{secret}\""), "line 6: "),
        (
            format!("[[certificates]]\nsubject = \"{secret}\"\nname = \"a\"\nroles = [\"reader\"]\n"),
            "'***' is not a subject",
        ),
        (format!("[[certificates]]\nsan = \"{secret}\"\nname = \"a\"\nroles = [\"reader\"]\n"), "'***' is not a name"),
        (format!("{}[limits.role.{secret}]\nrate = 1\n", key("roles = [\"reader\"]\n")), "unknown variant `***`"),
        (of_customers(&["b", secret], ""), "'shop' is the customer b and the customer ***"),
    ] {
        let why = IdentityFile::parse(&text).unwrap_err();
        assert!(why.contains(said), "{text}\n=> {why}");
        assert!(!why.contains(secret) && !why.contains(&secret[secret.len() - 30..]), "{why}");
    }
}

#[test]
fn a_file_that_others_may_change_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("identities.toml");
    fs::write(&path, "x").unwrap();
    for (mode, is_taken) in [(0o600, true), (0o644, true), (0o440, true), (0o664, false), (0o646, false)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let read = read_guarded(&path);
        assert_eq!(read.is_ok(), is_taken, "{mode:o}: {read:?}");
        assert!(is_taken || read.unwrap_err().contains("chmod go-w"));
    }
    assert!(read_guarded(folder.path()).unwrap_err().contains("not a file"));
    assert!(read_guarded(&folder.path().join("none")).unwrap_err().contains("none"));
}
