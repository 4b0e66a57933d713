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

#[tokio::test]
async fn an_endless_greeting_is_not_read_to_its_end() {
    let address = serve(None, true, vec![b'x'; 1024 * 1024]).await;
    let answer = ask(&plain(), "tcp", &format!("address = \"{address}\"\nexpect = \"y\"")).await;
    assert_eq!(answer.reading, Reading::Down);
    assert!(answer.text.contains("4096 bytes"), "{}", answer.text);
}
