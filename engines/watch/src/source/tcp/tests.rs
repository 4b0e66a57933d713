use store::Reading;

use crate::source::testing::{ask, closed_port, plain, serve};

/// WA-1: a service that accepts connections is not yet one that works.
#[tokio::test]
async fn what_a_port_says() {
    let net = plain();
    let greeter = serve(None, true, "220 mx.shop.example ESMTP\r\n").await;
    let echo = serve(None, false, "+PONG\r\n").await;
    let mute = serve(None, false, "").await;
    let closed = closed_port().await;
    let cases = [
        (format!("address = \"{greeter}\""), Reading::Up, "accepts connections"),
        (format!("address = \"{greeter}\"\nexpect = \"ESMTP\""), Reading::Up, "accepts connections"),
        (format!("address = \"{greeter}\"\nexpect = \"554 \""), Reading::Down, "27 bytes do not hold"),
        (format!("address = \"{echo}\"\nsend = \"PING\\n\"\nexpect = \"+PONG\""), Reading::Up, "accepts"),
        (format!("address = \"{mute}\"\nsend = \"x\"\nexpect = \"y\""), Reading::Down, "0 bytes do not hold"),
        (format!("address = \"{closed}\""), Reading::Down, "refuses the connection"),
    ];
    for (table, reading, text) in cases {
        let answer = ask(&net, "tcp", &table).await;
        assert_eq!(answer.reading, reading, "{table}: {}", answer.text);
        assert!(answer.text.contains(text), "{table}: {}", answer.text);
    }
}

/// A password is kept in a file, and each end of a line is sent as protocols of the internet write it.
#[tokio::test]
async fn what_is_said_may_be_a_secret() {
    use tokio::io::AsyncReadExt as _;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("login");
    std::fs::write(&path, "AUTH s3cret\nPING\n\n").expect("written");
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("set");
    #[expect(clippy::disallowed_methods, reason = "the test is the other side")]
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut heard = String::new();
        stream.read_to_string(&mut heard).await.expect("read");
        heard
    });
    let answer =
        ask(&plain(), "tcp", &format!("address = \"{address}\"\nsend = {{ file = \"{}\" }}", path.display())).await;
    assert_eq!(answer.reading, Reading::Up, "{}", answer.text);
    assert_eq!(server.await.expect("no panic"), "AUTH s3cret\r\nPING\r\n");
}

#[tokio::test]
async fn an_endless_greeting_is_not_read_to_its_end() {
    let address = serve(None, true, vec![b'x'; 1024 * 1024]).await;
    let answer = ask(&plain(), "tcp", &format!("address = \"{address}\"\nexpect = \"y\"")).await;
    assert_eq!(answer.reading, Reading::Down);
    assert!(answer.text.contains("4096 bytes"), "{}", answer.text);
}
