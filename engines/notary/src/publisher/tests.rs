//! The pace, on a clock of numbers.

use journal::note::SigningKey;

use super::*;

fn peer(seed: u8) -> RemoteWitness {
    let key = SigningKey::generate([seed; 32], "w.example").expect("a name");
    RemoteWitness { name: "w".to_owned(), url: "https://w.example/".to_owned(), vkey: key.cosigner_vkey() }
}

fn second(second: i64) -> Monotonic {
    Monotonic(second * 1_000_000)
}

/// A day of a log that moves every second: how often each of its witnesses is asked.
fn requests(peers: &[RemoteWitness], answers: impl Fn(usize, i64) -> bool) -> Vec<usize> {
    let mut round = Round::default();
    let mut asked = vec![0; peers.len()];
    for at in 0..86_400 {
        let (now, size) = (second(at), u64::try_from(at).expect("a size"));
        if !round.is_due(peers, Some(false), size, now) {
            continue;
        }
        round.next_at = Some(later(now, WITNESS_EVERY));
        for (index, peer) in peers.iter().enumerate() {
            if round.lacks(peer, size, now) {
                asked[index] += 1;
                round.asked.retain(|before| before.vkey != peer.vkey);
                round.asked.push(if answers(index, at) { cosigned(peer, size, now) } else { failed(peer, now) });
            }
        }
    }
    asked
}

fn cosigned(peer: &RemoteWitness, size: u64, now: Monotonic) -> KnownWitness {
    let line = Signature { name: "w.example".to_owned(), key_id: [0; 4], bytes: vec![1] };
    KnownWitness { vkey: peer.vkey.clone(), size, again_at: later(now, WITNESS_EVERY), line: Some(line) }
}

fn failed(peer: &RemoteWitness, now: Monotonic) -> KnownWitness {
    KnownWitness { vkey: peer.vkey.clone(), size: 0, again_at: later(now, LEAVE_ALONE), line: None }
}

#[test]
fn a_witness_is_asked_every_ten_seconds_at_most() {
    assert_eq!(requests(&[peer(1), peer(2)], |_, _| true), [8_640, 8_640]);
    // One that is down is asked less often, and the other no less.
    assert_eq!(requests(&[peer(1), peer(2)], |index, _| index == 0), [8_640, 2_880]);
}

#[test]
fn what_is_due() {
    let peers = [peer(1)];
    let mut round = Round::default();
    let check = |round: &Round, peers: &[RemoteWitness], moved, size, at, due, what: &str| {
        assert_eq!(round.is_due(peers, moved, size, second(at)), due, "{what}");
    };
    check(&round, &peers, Some(false), 5, 0, true, "the first change is published at once");
    round.next_at = Some(second(10));
    check(&round, &peers, Some(false), 6, 9, false, "the next is gathered");
    check(&round, &peers, Some(false), 6, 10, true, "until its time has come");
    check(&round, &[], Some(false), 6, 1, true, "without witnesses nothing waits");
    check(&round, &peers, Some(true), 6, 1, true, "on the way out nothing waits");
    round.asked = vec![cosigned(&peers[0], 5, second(0))];
    check(&round, &peers, None, 5, 99, false, "what is cosigned is not asked for again");
    round.asked = vec![failed(&peers[0], second(0))];
    check(&round, &peers, None, 5, 29, false, "who failed is left alone");
    check(&round, &peers, None, 5, 30, true, "and then asked for the same");
    check(&round, &[peer(1), peer(2)], None, 5, 1, true, "who is new is asked");
}
