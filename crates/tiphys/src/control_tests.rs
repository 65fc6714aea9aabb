use std::io::Read;

use super::*;

fn progress(done: u64) -> Answer {
    Answer::Progress { done, total: None, what: "reading".to_owned() }
}

/// More than a socket holds, each way.
const ARCHIVE: usize = 8 << 20;
const ANSWERS: u64 = 50_000;

#[test]
fn a_cluster_may_answer_at_length_before_it_has_read_the_archive() {
    let (client, server) = UnixStream::pair().expect("a pair of sockets");
    let cluster = thread::spawn(move || {
        let mut reader = BufReader::new(server.try_clone().expect("the same socket"));
        let mut line = String::new();
        reader.read_line(&mut line).expect("the request");
        for done in 0..ANSWERS {
            tell(&server, &progress(done)).expect("somebody listens");
        }
        let mut archive = Vec::new();
        reader.read_to_end(&mut archive).expect("the archive");
        tell(&server, &Answer::Done).expect("somebody listens");
        archive.len()
    });
    let mut heard = 0;
    let archive = Box::new(io::repeat(7).take(ARCHIVE as u64));
    ask(client, &Request::Import, Some(archive), &mut |_| heard += 1).expect("the cluster is content");
    assert_eq!(heard, ANSWERS);
    assert_eq!(cluster.join().expect("the cluster"), ARCHIVE);
}

#[test]
fn a_cluster_that_refuses_an_archive_says_why_without_reading_it() {
    let (client, server) = UnixStream::pair().expect("a pair of sockets");
    let cluster = thread::spawn(move || {
        let mut line = String::new();
        BufReader::new(&server).read_line(&mut line).expect("the request");
        tell(&server, &Answer::Failed("no archive".to_owned())).expect("somebody listens");
    });
    let archive = Box::new(io::repeat(7).take(ARCHIVE as u64));
    let asked = ask(client, &Request::Import, Some(archive), &mut |_| {});
    cluster.join().expect("the cluster");
    assert_eq!(asked.expect_err("refused").to_string(), "no archive");
}
