use super::*;
use crate::checkpoint::Checkpoint;
use crate::seal::commitment;
use crate::testing::{Tree, test_key};

/// The example of the specification, with whole lines in place of its ellipses.
#[test]
fn the_form_is_that_of_the_specification() {
    let hashes = ["gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=", "B95lDa8R83lS8n0eG+o0buTxRKQTYFi//1U8anccXmA="];
    let note = "example.com/fancylog\n109482\nsFodV/vSp5O8n9a8QpW6PRY97tfOSW5bsc2Xl/EQi08=\n\n\u{2014} example.com/fancylog hI2DJw==\n";
    let text = format!("c2sp.org/tlog-proof@v1\nextra YWdl\nindex 73894\n{}\n{}\n\n{note}", hashes[0], hashes[1]);
    let proof = TlogProof::parse(&text).expect("the form is right");
    assert_eq!(proof.index, 73_894);
    assert_eq!(proof.extra.as_deref(), Some(&b"age"[..]));
    assert_eq!(proof.proof.iter().map(Hash::to_base64).collect::<Vec<_>>(), hashes);
    assert_eq!(proof.checkpoint_note, note);
    assert_eq!(proof.to_text(), text);
    assert_eq!(proof.evidence(), None, "somebody else's extra data");
    for (from, to) in [
        ("@v1", "@v2"),
        ("extra YWdl", "extra Y"),
        ("index 73894", "index 073894"),
        ("index 73894\n", ""),
        ("gSKy", ""),
        ("\n\n", "\n"),
    ] {
        let bad = text.replacen(from, to, 1);
        assert!(TlogProof::parse(&bad).is_err(), "{bad}");
    }
    let long = text.replacen(hashes[0], &vec![hashes[0]; 64].join("\n"), 1);
    assert_eq!(TlogProof::parse(&long), Err(TlogProofError::Form("it has more than 64 hashes")));
}

#[test]
fn one_file_proves_one_entry() {
    let key = test_key(1, "shop.example/1");
    let (salt, payload) = ([5; 32], br#"{"type":"promise.verdict"}"#);
    for size in [1u64, 2, 3, 200, 300] {
        for index in [0, size / 2, size - 1] {
            let leaves: Vec<_> = (0..size)
                .map(|sequence| {
                    let commitment = commitment(&salt, payload);
                    Leaf { coarse: "promise.verdict".to_owned(), sequence, hour: 1, commitment }.encode()
                })
                .collect();
            let tree: Tree = leaves.iter().collect();
            let root = tree.frontier().root();
            let note = Checkpoint { origin: key.name().to_owned(), size, root }.sign(&[&key]);
            let leaf = &leaves[usize::try_from(index).expect("small")];
            let disclosure = Disclosure { sequence: index, salt, payload };
            let proof =
                TlogProof::new(index, size, &tree, note).expect("a proof").with_evidence(leaf, Some(&disclosure));
            let text = proof.to_text();
            let read = TlogProof::parse(&text).expect("what we write, we read");
            assert_eq!(read, proof);
            assert_eq!(read.evidence(), Some(Evidence { leaf, disclosure: Some(disclosure) }));
            assert!(read.verify_evidence(&[key.vkey()]).is_ok());
            assert!(read.verify(b"another leaf", &[key.vkey()]).is_err());
            assert!(read.verify(leaf, &[test_key(2, "shop.example/1").vkey()]).is_err(), "another key");
            // The extra data is not signed; what it says is checked against the leaf.
            let forged = Disclosure { payload: br#"{"type":"better"}"#, ..disclosure };
            let forged = proof.clone().with_evidence(leaf, Some(&forged));
            assert!(matches!(forged.verify_evidence(&[key.vkey()]), Err(TlogProofError::Evidence { .. })));
            let elsewhere = TlogProof { index: index + 1, ..proof };
            assert!(elsewhere.verify_evidence(&[key.vkey()]).is_err());
        }
    }
}
