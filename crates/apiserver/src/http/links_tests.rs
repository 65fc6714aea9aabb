use proptest::prelude::*;

use super::*;

const PROXY: &str = "/api/v1/namespaces/ns/pods/p/proxy";

fn links() -> Links {
    Links { prefix: PROXY.to_owned(), host: "10.1.2.3:80".to_owned() }
}

fn page() -> Page {
    Page { links: links(), held: Vec::new(), inside: Inside::Text }
}

fn mended(text: &str) -> String {
    let mut page = page();
    let mut out = page.take(text.as_bytes()).to_vec();
    out.extend_from_slice(&page.held);
    String::from_utf8(out).expect("text")
}

#[test]
fn links_to_the_other_sides_root_lead_through_the_proxy() {
    let there = |link: &str| format!("{PROXY}{link}");
    let cases = [
        (r#"<a href="/x">t</a>"#, format!(r#"<a href="{}">t</a>"#, there("/x"))),
        (
            r#"<p><IMG alt=1 SRC='/i.png' /></p>"#,
            format!(r#"<p><IMG alt=1 SRC='{}' /></p>"#, there("/i.png")),
        ),
        (r#"<link href="http://10.1.2.3:80/s.css">"#, format!(r#"<link href="{}">"#, there("/s.css"))),
        ("<form action=/go method=post>", format!("<form action={} method=post>", there("/go"))),
        (
            r#"<script src="/s.js"></script><a href='/'>"#,
            format!(r#"<script src="{}"></script><a href='{}'>"#, there("/s.js"), there("/")),
        ),
        (r#"<a title="a > b" href = "/x">"#, format!(r#"<a title="a > b" href = "{}">"#, there("/x"))),
    ];
    for (given, wanted) in cases {
        assert_eq!(mended(given), wanted);
    }
}

#[test]
fn everything_else_stays_as_it_is() {
    for text in [
        r#"<a href="x">"#,
        r#"<a href="//other/x">"#,
        r#"<a href="https://other/x">"#,
        r#"<a href="http://10.1.2.3:8080/x">"#,
        r#"<a href="/api/v1/namespaces/ns/pods/p/proxy/x">"#,
        r#"<a title="/x" data-href="/x" =/x>"#,
        r#"<!-- <a href="/x"> -->"#,
        r#"<script>let s = '<a href="/x">';</script>"#,
        "a < b - c, <a href='/x",
        "<",
    ] {
        assert_eq!(mended(text), text);
    }
}

#[test]
fn a_tag_without_an_end_does_not_pile_up() {
    let mut page = page();
    page.take(b"<a href='");
    for _ in 0..64 {
        page.take(&[b'x'; 1024]);
        assert!(page.held.len() <= MAX_TAG);
    }
}

proptest! {
    /// Where a page is cut into pieces makes no difference, and without links nothing changes.
    #[test]
    fn pieces_make_no_difference(text in "(<a href=\"/x\">|<script>|</script>|<!--|-->|[<>a/='\" -]){0,30}", cut in 0_usize..200) {
        let whole = mended(&text);
        let mut page = page();
        let (first, second) = text.as_bytes().split_at(cut.min(text.len()));
        let mut out = page.take(first).to_vec();
        out.extend_from_slice(&page.take(second));
        out.extend_from_slice(&page.held);
        prop_assert_eq!(String::from_utf8(out).expect("text"), whole.clone());
        if !text.contains("/x") {
            prop_assert_eq!(whole.replace(PROXY, ""), text);
        }
    }
}

#[test]
fn redirects_and_pages_are_mended_and_nothing_else() {
    let answer = |kind: &str| {
        let builder = Response::builder().header(LOCATION, "/next").header(CONTENT_LENGTH, "9");
        builder.header(CONTENT_TYPE, kind).body(Body::empty()).expect("an answer")
    };
    let page = links().mend(answer("text/html; charset=utf-8"));
    assert_eq!(page.headers()[LOCATION], format!("{PROXY}/next"));
    assert!(!page.headers().contains_key(CONTENT_LENGTH), "it may have become longer");
    let data = links().mend(answer("application/json"));
    assert_eq!(data.headers()[CONTENT_LENGTH], "9");
}
