//! Paths against the examples of the specification; bytes against the crate `tlog_tiles`, for every size.

use std::collections::BTreeMap;
use std::convert::Infallible;

use super::*;
use crate::testing::Tree;
use crate::tree::leaf_hash;

fn leaf(n: u64) -> Vec<u8> {
    format!("leaf {n}").into_bytes()
}

#[test]
fn paths_are_those_of_the_specification() {
    let cases = [
        ("tile/0/x001/x234/067", Resource::Tile(TileId { level: 0, index: 1_234_067, width: 256 })),
        ("tile/0/273.p/112", Resource::Tile(TileId { level: 0, index: 273, width: 112 })),
        ("tile/7/000.p/1", Resource::Tile(TileId { level: 7, index: 0, width: 1 })),
        ("tile/entries/x001/000", Resource::Entries(BundleId { index: 1000, width: 256 })),
        ("payload/999.p/255", Resource::Payload(BundleId { index: 999, width: 255 })),
    ];
    for (path, resource) in cases {
        assert_eq!(parse_path(path), Some(resource), "{path}");
        let written = match resource {
            Resource::Tile(tile) => tile.path(),
            Resource::Entries(bundle) => bundle.entries_path(),
            Resource::Payload(bundle) => bundle.payload_path(),
        };
        assert_eq!(written, path);
    }
    for index in (0..64).map(|bit| 1u64 << bit).chain([999, 1000, 999_999, 1_000_000]).filter(|n| *n <= u64::MAX / 256)
    {
        let bundle = BundleId { index, width: 256 };
        assert_eq!(parse_path(&bundle.entries_path()), Some(Resource::Entries(bundle)));
    }
}

#[test]
fn other_spellings_are_refused() {
    for path in [
        "",
        "tile",
        "tile/0",
        "tile/0/",
        "tile/0/0",
        "tile/0/0000",
        "tile/0/x001",
        "tile/0/001/000",
        "tile/0/x000/001",
        "tile/0/x01/001",
        "tile/00/001",
        "tile/8/001",
        "tile/8/0/001",
        "tile/-1/001",
        "tile/0/001.p/0",
        "tile/0/001.p/256",
        "tile/0/001.p/01",
        "tile/0/001.p/",
        "tile/0/001.p/1/2",
        "tile/entries",
        "tile/entries/001.p/+1",
        "tile/data/001",
        "payload",
        "payload/../001",
        "/tile/0/001",
        "tile/0/001/",
        "tile/0/x999/x999/x999/x999/x999/x999/999",
        "tile/7/256",
    ] {
        assert_eq!(parse_path(path), None, "{path}");
    }
}

/// All tiles of a size, as our streaming tiler cuts them.
fn cut(size: u64) -> BTreeMap<TileId, Vec<u8>> {
    let (mut tiler, mut cut) = (Tiler::new(), BTreeMap::new());
    for n in 0..size {
        let outcome: Result<(), Infallible> = tiler.push(leaf_hash(&leaf(n)), |id, bytes| {
            assert!(cut.insert(id, bytes.to_vec()).is_none(), "{id:?} is written once");
            Ok(())
        });
        assert!(outcome.is_ok());
    }
    cut.extend(tiler.partial().map(|(id, bytes)| (id, bytes.to_vec())));
    cut
}

/// Tiles of `tlog_tiles`, by our id: its paths are spelled otherwise.
fn theirs(size: u64, oracle: &Oracle) -> BTreeMap<TileId, Vec<u8>> {
    let tiles = tlog_tiles::Tile::new_tiles(8, 0, size).into_iter();
    let tiles = tiles.map(|tile| {
        let width = u16::try_from(tile.width()).expect("at most 256");
        let id = TileId { level: tile.level(), index: tile.level_index(), width };
        // The trap of the module's documentation: the Go layout has the height in its path.
        assert_eq!(tile.path(), id.path().replacen("tile/", "tile/8/", 1));
        (id, tile.read_data(oracle).expect("a tile"))
    });
    tiles.collect()
}

#[derive(Default)]
struct Oracle(Vec<tlog_tiles::Hash>);

impl tlog_tiles::HashReader for Oracle {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<tlog_tiles::Hash>, tlog_tiles::Error> {
        Ok(indexes.iter().map(|index| self.0[usize::try_from(*index).expect("small")]).collect())
    }
}

#[test]
fn bytes_agree_with_tlog_tiles() {
    let sizes = (0..=40).chain(250..=260).chain(510..=515).chain([600, 65_535, 65_536, 65_537, 70_000]);
    let (mut oracle, mut tree) = (Oracle::default(), Tree::default());
    for size in sizes {
        for n in tree.frontier().size()..size {
            let stored = tlog_tiles::stored_hashes(n, &leaf(n), &oracle).expect("stored");
            oracle.0.extend(stored);
            tree.push(leaf_hash(&leaf(n)));
        }
        let expected = theirs(size, &oracle);
        assert_eq!(
            tiles_for(size).collect::<Vec<_>>(),
            expected.keys().copied().collect::<Vec<_>>(),
            "tiles of {size}"
        );
        for (id, bytes) in &expected {
            assert_eq!(id.hashes(&tree).as_ref(), Ok(bytes), "{} of {size}", id.path());
        }
        assert_eq!(cut(size), expected, "streamed, {size}");
    }
}

/// The example of the specification, in words there: a tree of 70,000.
#[test]
fn seventy_thousand_entries() {
    let count = |level, full: bool| {
        tiles_for(70_000).filter(|tile| tile.level == level && (tile.width == 256) == full).collect::<Vec<_>>()
    };
    assert_eq!(count(0, true).len(), 273);
    assert_eq!(count(0, false), [TileId { level: 0, index: 273, width: 112 }]);
    assert_eq!(count(1, true).len(), 1);
    assert_eq!(count(1, false), [TileId { level: 1, index: 1, width: 17 }]);
    assert_eq!(count(2, false), [TileId { level: 2, index: 0, width: 1 }]);
    assert_eq!(tiles_for(256).last(), Some(TileId { level: 1, index: 0, width: 1 }));
    assert_eq!(tiles_for(0).count(), 0);
}

#[test]
fn bundles_round_trip() {
    let leaves: Vec<Vec<u8>> = [0, 1, 255, 256, 65_535].map(|length| vec![b'x'; length]).to_vec();
    let bytes = encode_bundle(&leaves).expect("short enough");
    assert_eq!(&bytes[..5], [0, 0, 0, 1, b'x']);
    assert_eq!(decode_bundle(&bytes, 5), Ok(leaves.iter().map(Vec::as_slice).collect()));
    assert_eq!(decode_bundle(&bytes, 4), Err(BundleError::Count { found: 5, expected: 4 }));
    assert_eq!(decode_bundle(&bytes, 6), Err(BundleError::Count { found: 5, expected: 6 }));
    assert_eq!(decode_bundle(&bytes[..4], 2), Err(BundleError::Cut { position: 1 }));
    assert_eq!(decode_bundle(&bytes[..3], 2), Err(BundleError::Cut { position: 1 }));
    let too_long = encode_bundle(&[vec![0; 65_536]]);
    assert_eq!(too_long, Err(BundleError::TooLong { position: 0, length: 65_536 }));
}
