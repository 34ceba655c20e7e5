//! Which requests may leave, and what is wrong with a manifest that says otherwise.

use super::*;
use serde_json::json;

const TABLES: &str = r#"
[[http]]
url = "https://api.example.com/v1/orders/*"
methods = ["GET", "POST"]
headers = ["x-request-id"]
credentials = ["crm"]

[[http]]
url = "{shop}/stock"

[credential.crm]
kind = "bearer"
secret = "crm_token"
"#;

fn rules(text: &str) -> Result<Rules, Wrong> {
    Rules::read(&text.parse().unwrap(), &json!({ "shop": "https://shop.example:8443" }))
}

fn secrets() -> BTreeMap<String, SecretString> {
    [("crm_token".to_owned(), SecretString::from("s3cr3t-t0ken"))].into()
}

fn request(method: &str, url: &str) -> contract::Request {
    let (method, url) = (method.to_owned(), url.to_owned());
    contract::Request { method, url, headers: Vec::new(), body: Vec::new(), credential: None }
}

fn allowed(method: &str, url: &str) -> Result<Request, String> {
    rules(TABLES).unwrap().allow(request(method, url), &secrets())
}

#[test]
fn what_the_manifest_lists_is_allowed() {
    for (method, url) in [
        ("GET", "https://api.example.com/v1/orders/7"),
        ("POST", "https://api.example.com/v1/orders/7/lines?page=2"),
        ("GET", "https://API.example.com:443/v1/orders/"),
        ("GET", "https://shop.example:8443/stock"),
        // Resolved before it is looked at.
        ("GET", "https://api.example.com/v1/users/../orders/7"),
    ] {
        assert!(allowed(method, url).is_ok(), "{method} {url}: {:?}", allowed(method, url));
    }
}

#[test]
fn everything_else_is_refused() {
    for (method, url) in [
        ("DELETE", "https://api.example.com/v1/orders/7"),
        ("get", "https://api.example.com/v1/orders/7"),
        ("GET / HTTP/1.1\r\nhost: evil", "https://api.example.com/v1/orders/7"),
        ("GET", "http://api.example.com/v1/orders/7"),
        ("GET", "https://api.example.com/v1/users"),
        ("GET", "https://api.example.com/v1/orders"),
        ("GET", "https://api.example.com/v1/ordersevil/7"),
        ("GET", "https://api.example.com/v1/orders/../users"),
        ("GET", "https://api.example.com/v1/orders/%2e%2e/users"),
        ("GET", "https://api.example.com/v1/orders/..%2fusers"),
        ("GET", "https://api.example.com/v1/orders/..%5Cusers"),
        ("GET", "https://api.example.com/v1/orders\\..\\users"),
        ("GET", "https://api.example.com:8443/v1/orders/7"),
        ("GET", "https://api.example.com./v1/orders/7"),
        ("GET", "https://evil.example/v1/orders/7"),
        ("GET", "https://api.example.com.evil.example/v1/orders/7"),
        ("GET", "https://api.example.com@evil.example/v1/orders/7"),
        ("GET", "https://evil@api.example.com/v1/orders/7"),
        ("GET", "https://[::ffff:127.0.0.1]/v1/orders/7"),
        ("GET", "https://0177.0.0.1/v1/orders/7"),
        ("GET", "https://2130706433/v1/orders/7"),
        ("GET", "https://shop.example:8443/stock/7"),
        ("GET", "https://shop.example/stock"),
        ("GET", "file:///etc/passwd"),
        ("GET", "https:///v1/orders/7"),
        ("GET", "api.example.com/v1/orders/7"),
        ("GET", "https://api.example.com/v1/orders/7#x"),
    ] {
        assert!(allowed(method, url).is_err(), "{method} {url}");
    }
    assert!(
        allowed("GET", &format!("https://api.example.com/v1/orders/{}", "x".repeat(URL_BYTES_MAX))).is_err()
    );
    let body = vec![0; BODY_BYTES_MAX + 1];
    let large = contract::Request { body, ..request("POST", "https://api.example.com/v1/orders/7") };
    assert!(rules(TABLES).unwrap().allow(large, &secrets()).is_err());
}

#[test]
fn a_credential_goes_where_it_may_and_nowhere_else() {
    let with = |url: &str, credential: &str| {
        let asked = contract::Request { credential: Some(credential.to_owned()), ..request("GET", url) };
        rules(TABLES).unwrap().allow(asked, &secrets())
    };
    let sent = with("https://api.example.com/v1/orders/7", "crm").unwrap();
    assert!(matches!(sent.credential, Some(Credential::Bearer(_))));
    assert!(!format!("{sent:?}").contains("s3cr3t"));
    let why = with("https://shop.example:8443/stock", "crm").unwrap_err();
    assert!(why.contains("credential `crm`"), "{why}");
    assert!(with("https://api.example.com/v1/orders/7", "bank").is_err());
    assert!(allowed("GET", "https://api.example.com/v1/orders/7").unwrap().credential.is_none());
}

#[test]
fn headers_are_those_of_the_list() {
    let with = |name: &str, value: &str| {
        let headers = vec![contract::Header { name: name.to_owned(), value: value.to_owned() }];
        let asked = contract::Request { headers, ..request("GET", "https://api.example.com/v1/orders/7") };
        rules(TABLES).unwrap().allow(asked, &secrets())
    };
    assert!(with("Accept", "text/plain").is_ok() && with("X-Request-Id", "7").is_ok());
    for (name, value) in [
        ("authorization", "Bearer x"),
        ("cookie", "a=b"),
        ("host", "evil.example"),
        ("accept-encoding", "gzip"),
        ("range", "bytes=0-3"),
        ("x-forwarded-for", "127.0.0.1"),
        ("accept", "a\r\nx-evil: 1"),
        ("a b", "c"),
    ] {
        assert!(with(name, value).is_err(), "{name}");
    }
    let many = (0..=HEADERS_MAX.0).map(|_| contract::Header { name: "accept".into(), value: "x".into() });
    let asked = contract::Request {
        headers: many.collect(),
        ..request("GET", "https://api.example.com/v1/orders/7")
    };
    assert!(rules(TABLES).unwrap().allow(asked, &secrets()).is_err());
}

#[test]
fn a_wrong_table_is_named() {
    for (text, part) in [
        ("[[http]]\nurl = \"https://a.example/x*\"\n", "behind a `/`"),
        ("[[http]]\nurl = \"ftp://a.example/\"\n", "not http"),
        ("[[http]]\nurl = \"{nothing}/x\"\n", "no address"),
        ("[[http]]\nurl = \"https://u:p@a.example/\"\n", "user and password"),
        ("[[http]]\nurl = \"https://a.example/?q=1\"\n", "a query"),
        ("[[http]]\nurl = \"https://a.example/\"\nmethods = [\"CONNECT\"]\n", "`CONNECT`"),
        ("[[http]]\nurl = \"https://a.example/\"\nheaders = [\"Range\"]\n", "`Range`"),
        ("[[http]]\nurl = \"https://a.example/\"\ncredentials = [\"x\"]\n", "[credential.x]"),
        ("[[http]]\nurl = \"https://a.example/\"\nmethod = \"GET\"\n", "method"),
        ("[credential.x]\nkind = \"bearer\"\n", "secret"),
        ("[credential.x]\nkind = \"header\"\nheader = \"a b\"\nsecret = \"s\"\n", "no header's name"),
    ] {
        let error = rules(text).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    let missing = rules(TABLES).unwrap().check_secrets(&BTreeMap::new()).unwrap_err().to_string();
    assert!(missing.contains("crm_token") && missing.contains("[credential.crm]"), "{missing}");
    assert!(rules(TABLES).unwrap().check_secrets(&secrets()).is_ok());
}

#[test]
fn what_is_asked_can_be_read() {
    let config: toml::Table = "shop = \"https://shop.example\"".parse().unwrap();
    assert_eq!(
        Rules::asks(&TABLES.parse().unwrap(), &config),
        [
            "http GET POST https://api.example.com/v1/orders/* headers x-request-id with crm",
            "http GET https://shop.example/stock",
            "secret crm_token as crm, bearer",
        ]
    );
}
