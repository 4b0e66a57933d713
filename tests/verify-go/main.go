// Command verify-go checks an export of a garant log without a line of garant.
//
// It rests on the reference implementation of signed notes and transparency logs, golang.org/x/mod/sumdb/{note,tlog},
// and on the standard library; what it knows of garant is what docs/log.md and docs/evaluator.md say. It exists so that "an outsider can
// verify it with tools we did not write" is a test and not a sentence.
//
// It checks what the two documents say can be checked, and computes every verdict again, every member of it. What the
// documents pass over, it passes over, and says so: a verdict of a later release is not judged, and then it ends with 4.
package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	tileHeight  = 8
	bundleWidth = 1 << tileHeight
	leafPrefix  = "garant-leaf/1 "
	teamPrefix  = "team:"
	microsHour  = int64(3600 * 1e6)
	hoursPerDay = 24
	hoursMax    = 10000000
)

type list []string

func (l *list) String() string     { return strings.Join(*l, ",") }
func (l *list) Set(v string) error { *l = append(*l, v); return nil }

func main() {
	var witnesses list
	flag.Var(&witnesses, "witness", "verifier `key` of a witness whose cosignature must be there; may be repeated")
	since := flag.String("since", "", "an older checkpoint of this log, in a `file` kept from an earlier look")
	proof := flag.String("consistency", "", "instead of an export: a proof, as `garant log proof --from` writes it, in a `file`")
	maxAge := flag.Duration("max-age", 0, "how old the newest entry may be; not asked without it")
	flag.Usage = func() {
		fmt.Fprint(flag.CommandLine.Output(), `usage: verify-go [-witness KEY]… [-since FILE] DIRECTORY [KEY]…
       verify-go -consistency FILE -since FILE KEY…

KEY is the verifier key of the log, known from elsewhere; it is followed over the rotations of the log to the one that signs
now. A proof of consistency has no rotations: there, give the keys that signed. Without a key the one in the export is used,
which says nothing about who signed.

Ends with 0 if every check passed, 4 if a verdict in effect was not computed again, because a later release wrote it or what it
rests on is destroyed, 1 if a check failed.

`)
		flag.PrintDefaults()
	}
	flag.Parse()
	if *proof != "" && *since != "" && flag.NArg() > 0 {
		if err := checkConsistency(*proof, *since, flag.Args()); err != nil {
			fmt.Fprintf(os.Stderr, "FAILED: %v\n", err)
			os.Exit(1)
		}
		return
	}
	if flag.NArg() < 1 || *proof != "" {
		flag.Usage()
		os.Exit(2)
	}
	a := &audit{dir: flag.Arg(0), maxAge: *maxAge}
	if err := a.run(flag.Args()[1:], witnesses, *since); err != nil {
		fmt.Fprintf(os.Stderr, "FAILED: %v\n", err)
		os.Exit(1)
	}
	if len(a.doubts) > 0 {
		fmt.Printf("UNCONFIRMED: no check failed, but %s\n", strings.Join(a.doubts, "; "))
		os.Exit(4)
	}
	fmt.Println("OK: every check passed")
}

// An audit is one look at one export.
type audit struct {
	dir        string
	maxAge     time.Duration
	vkey       string   // the key in the export
	known      []string // keys that are or were the log's, and those of the reader
	self       selves
	newest     *int64
	origin     string
	checkpoint []byte
	tree       tlog.Tree
	leaves     []leaf
	hashes     []tlog.Hash // of the leaves
	stored     store
	public     int
	private    int
	gone       int
	payload    []*envelope // nil where it is not disclosed
	doubts     []string    // what was not judged
}

// permanent are the kinds that are kept as long as the log.
var permanent = map[string]bool{
	"journal.opened": true, "journal.continued": true, "journal.key_announced": true, "journal.key_retired": true,
	"journal.destruction_intended": true, "journal.destroyed": true, "engine.clock_stepped": true,
}

// teamClasses are the classes of which no public entry is. A class that is not known may have some.
var teamClasses = map[string]bool{"records": true, "audit": true, "traces": true, "permanent": true}

// version is that of all bodies that the documents describe.
const version = 1

// A leaf is one entry as everybody may see it.
type leaf struct {
	coarse     string
	sequence   int64
	hour       int64
	commitment [32]byte
}

// An envelope is what a disclosed payload says.
type envelope struct {
	Type         string
	Version      int64
	Installation string
	Log          string
	Observer     name
	Boot         string
	Sequence     uint64
	ObservedAt   int64 `key:"observed_at"`
	RecordedAt   int64 `key:"recorded_at"`
	Signature    *string
	Body         json.RawMessage
}

// store keeps the hashes of the whole tree, in the order that tlog gives them.
type store []tlog.Hash

func (s store) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		if index < 0 || index >= int64(len(s)) {
			return nil, fmt.Errorf("hash %d is not there", index)
		}
		out[i] = s[index]
	}
	return out, nil
}

func (a *audit) run(vkeys, witnesses []string, since string) error {
	standing := "authenticated"
	own, err := a.read("vkey")
	if err != nil {
		return err
	}
	a.vkey = strings.TrimSuffix(string(own), "\n")
	if len(vkeys) == 0 {
		standing = "self-consistent, not authenticated (no key given)"
	}
	if a.checkpoint, err = a.read("checkpoint"); err != nil {
		return err
	}
	// By the key beside it; whether that is to be trusted is settled once the log has been read.
	if a.origin, a.tree, err = openCheckpoint(a.checkpoint, []string{a.vkey}); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	checkpoint := a.checkpoint
	fmt.Printf("checkpoint: %s, %d entries, %s\n", a.origin, a.tree.N, standing)
	for _, text := range witnesses {
		at, err := cosigned(checkpoint, text)
		if err != nil {
			return fmt.Errorf("witness %q: %w", text, err)
		}
		fmt.Printf("witness: cosigned at %d\n", at)
	}
	for _, step := range []struct {
		name  string
		check func() error
	}{
		{"entries", a.checkEntries},
		{"tiles", a.checkTiles},
		{"payloads", a.checkPayloads},
		{"completeness", a.checkComplete},
		{"entries about the log", a.checkSelf},
		{"keys", func() error { return a.checkKeys(vkeys) }},
		{"clock", a.checkClock},
		{"proofs", a.checkProofs},
		{"verdicts.json", a.checkVerdicts},
		{"policy.json", a.checkPolicy},
		{"verdicts", a.checkFigures},
	} {
		if err := step.check(); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	if a.maxAge > 0 {
		if err := a.checkAge(a.maxAge, time.Now()); err != nil {
			return fmt.Errorf("age: %w", err)
		}
	}
	if since != "" {
		if err := a.checkSince(since); err != nil {
			return fmt.Errorf("since %s: %w", since, err)
		}
	}
	return nil
}

func (a *audit) read(path string) ([]byte, error) {
	return os.ReadFile(filepath.Join(a.dir, filepath.FromSlash(path)))
}

// openCheckpoint verifies that one of the keys signed a note, and reads the tree head in it.
func openCheckpoint(text []byte, vkeys []string) (string, tlog.Tree, error) {
	signers, err := signersOf(text, vkeys)
	if err == nil && len(signers) == 0 {
		err = errors.New("none of the keys signed it")
	}
	if err != nil {
		return "", tlog.Tree{}, err
	}
	head, _, _ := strings.Cut(string(text), "\n\n")
	tree, origin, err := readHead(head + "\n")
	if err != nil {
		return "", tree, err
	}
	for _, signer := range signers {
		if !strings.HasPrefix(signer, origin+"+") {
			return "", tree, fmt.Errorf("signed by %q, but the origin is %q", signer, origin)
		}
	}
	return origin, tree, nil
}

// readHead reads the text of a checkpoint.
func readHead(text string) (tree tlog.Tree, origin string, err error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 4 || lines[3] != "" || lines[0] == "" {
		return tree, "", errors.New("a tree head has three lines")
	}
	if tree.N, err = strconv.ParseInt(lines[1], 10, 64); err != nil || strconv.FormatInt(tree.N, 10) != lines[1] || tree.N < 0 {
		return tree, "", fmt.Errorf("%q is not a size", lines[1])
	}
	tree.Hash, err = parseHash(lines[2])
	return tree, lines[0], err
}

func parseHash(text string) (hash tlog.Hash, err error) {
	decoded, err := fromBase64(text)
	if err == nil && len(decoded) != len(hash) {
		err = errors.New("not a hash")
	}
	copy(hash[:], decoded)
	return hash, err
}

// cosigned verifies a tlog-cosignature (type 0x04) by the witness with that key, and says when it was made.
func cosigned(text []byte, vkey string) (uint64, error) {
	parts := strings.SplitN(vkey, "+", 3)
	if len(parts) != 3 {
		return 0, errors.New("a verifier key is name+hash+base64")
	}
	key, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(key) != 1+ed25519.PublicKeySize || key[0] != 4 {
		return 0, errors.New("not an Ed25519 cosignature key (type 0x04)")
	}
	sum := sha256.Sum256(append([]byte(parts[0]+"\n"), key...))
	if hex.EncodeToString(sum[:4]) != parts[1] {
		return 0, errors.New("its key hash is wrong")
	}
	verifier := &witness{name: parts[0], hash: binary.BigEndian.Uint32(sum[:4]), key: key[1:]}
	opened, err := note.Open(text, note.VerifierList(verifier))
	if err != nil {
		return 0, err
	}
	signature, err := base64.StdEncoding.DecodeString(opened.Sigs[0].Base64)
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(signature[4:12]), nil
}

// witness is a note.Verifier for tlog-cosignature.
type witness struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

func (w *witness) Name() string    { return w.name }
func (w *witness) KeyHash() uint32 { return w.hash }
func (w *witness) Verify(message, signature []byte) bool {
	if len(signature) != 8+ed25519.SignatureSize {
		return false
	}
	header := fmt.Sprintf("cosignature/v1\ntime %d\n", binary.BigEndian.Uint64(signature))
	return ed25519.Verify(w.key, append([]byte(header), message...), signature[8:])
}

// numberPath writes n as C2SP does: 1234067 is x001/x234/067.
func numberPath(n int64) string {
	path := fmt.Sprintf("%03d", n%1000)
	for n /= 1000; n > 0; n /= 1000 {
		path = fmt.Sprintf("x%03d/%s", n%1000, path)
	}
	return path
}

func partial(width int64) string {
	if width == bundleWidth {
		return ""
	}
	return fmt.Sprintf(".p/%d", width)
}

// bundles calls f for each entry bundle of the tree: its number, its width, and its first entry.
func (a *audit) bundles(f func(suffix string, first, width int64) error) error {
	for first := int64(0); first < a.tree.N; first += bundleWidth {
		width := a.tree.N - first
		if width > bundleWidth {
			width = bundleWidth
		}
		if err := f(numberPath(first/bundleWidth)+partial(width), first, width); err != nil {
			return err
		}
	}
	return nil
}

// checkEntries hashes every entry of every bundle and compares the root with the signed one.
func (a *audit) checkEntries() error {
	err := a.bundles(func(suffix string, first, width int64) error {
		path := "tile/entries/" + suffix
		data, err := a.read(path)
		if err != nil {
			return err
		}
		for n := first; n < first+width; n++ {
			if len(data) < 2 || len(data)-2 < int(binary.BigEndian.Uint16(data)) {
				return fmt.Errorf("%s ends within entry %d", path, n)
			}
			length := int(binary.BigEndian.Uint16(data))
			entry := data[2 : 2+length]
			data = data[2+length:]
			parsed, err := parseLeaf(string(entry))
			if err != nil {
				return fmt.Errorf("%s, entry %d: %w", path, n, err)
			}
			if parsed.sequence != n {
				return fmt.Errorf("%s: entry %d says that it is %d", path, n, parsed.sequence)
			}
			hash := tlog.RecordHash(entry)
			hashes, err := tlog.StoredHashesForRecordHash(n, hash, a.stored)
			if err != nil {
				return err
			}
			a.stored = append(a.stored, hashes...)
			a.hashes = append(a.hashes, hash)
			a.leaves = append(a.leaves, parsed)
		}
		if len(data) != 0 {
			return fmt.Errorf("%s holds more than its %d entries", path, width)
		}
		return nil
	})
	if err != nil {
		return err
	}
	root, err := tlog.TreeHash(a.tree.N, a.stored)
	if err != nil {
		return err
	}
	if root != a.tree.Hash {
		return fmt.Errorf("the root of the entries is %v, the signed one %v", root, a.tree.Hash)
	}
	fmt.Printf("entries: %d hashed, root as signed\n", a.tree.N)
	return nil
}

func parseLeaf(text string) (leaf, error) {
	var l leaf
	fields := strings.Split(strings.TrimPrefix(text, leafPrefix), " ")
	if !strings.HasPrefix(text, leafPrefix) || len(fields) != 4 {
		return l, fmt.Errorf("%q is not a leaf", text)
	}
	var err error
	if l.sequence, err = strconv.ParseInt(fields[1], 10, 64); err != nil {
		return l, err
	}
	if l.hour, err = strconv.ParseInt(fields[2], 10, 64); err != nil {
		return l, err
	}
	commitment, err := hex.DecodeString(fields[3])
	if err != nil || len(commitment) != len(l.commitment) {
		return l, fmt.Errorf("%q is not a commitment", fields[3])
	}
	copy(l.commitment[:], commitment)
	l.coarse = fields[0]
	isGraphic := func(r rune) bool { return r > ' ' && r < 0x7f }
	isCoarse := l.coarse != "" && strings.TrimFunc(l.coarse, isGraphic) == ""
	// There is one spelling.
	spelled := fmt.Sprintf("%s%s %d %d %x", leafPrefix, l.coarse, l.sequence, l.hour, l.commitment)
	if !isCoarse || spelled != text || l.hour > hoursMax || l.hour < -hoursMax {
		return l, fmt.Errorf("%q is not a leaf", text)
	}
	return l, nil
}

// checkTiles compares every tile on disk with the hashes of the entries.
func (a *audit) checkTiles() error {
	count := 0
	for _, tile := range tlog.NewTiles(tileHeight, 0, a.tree.N) {
		// Narrower versions of the last tile of a level were published on the way here; an export has the widest.
		if left := a.tree.N>>(tileHeight*tile.L) - tile.N*bundleWidth; int64(tile.W) < left && tile.W < bundleWidth {
			continue
		}
		count++
		want, err := tlog.ReadTileData(tile, a.stored)
		if err != nil {
			return err
		}
		path := fmt.Sprintf("tile/%d/%s%s", tile.L, numberPath(tile.N), partial(int64(tile.W)))
		got, err := a.read(path)
		if err != nil {
			return err
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("%s does not hold the hashes of its entries", path)
		}
	}
	fmt.Printf("tiles: %d compared\n", count)
	return nil
}

// checkPayloads compares every disclosed payload with the commitment in its leaf.
func (a *audit) checkPayloads() error {
	a.payload = make([]*envelope, len(a.leaves))
	return a.bundles(func(suffix string, first, width int64) error {
		path := "payload/" + suffix
		data, err := a.read(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		last := first - 1
		for _, line := range strings.SplitAfter(string(data), "\n") {
			if line == "" {
				continue
			}
			fields := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 3)
			if len(fields) != 3 || !strings.HasSuffix(line, "\n") {
				return fmt.Errorf("%s: %.60q is not a line of a payload bundle", path, line)
			}
			n, err := strconv.ParseInt(fields[0], 10, 64)
			if err != nil || n <= last || n >= first+width || strconv.FormatInt(n, 10) != fields[0] {
				return fmt.Errorf("%s: %q is not the next sequence", path, fields[0])
			}
			last = n
			salt, err := fromBase64(fields[1])
			if err != nil || len(salt) != 32 {
				return fmt.Errorf("%s, entry %d: %q is not a salt", path, n, fields[1])
			}
			if err := a.disclose(n, salt, []byte(fields[2])); err != nil {
				return fmt.Errorf("%s, entry %d: %w", path, n, err)
			}
		}
		return nil
	})
}

func (a *audit) disclose(n int64, salt, payload []byte) error {
	l := a.leaves[n]
	if sha256.Sum256(append(salt, payload...)) != l.commitment {
		return errors.New("the payload is not the one that the log commits to")
	}
	var e envelope
	if err := decode(payload, &e); err != nil {
		return err
	}
	if err := e.checkForm(); err != nil {
		return err
	}
	if !strings.HasPrefix(l.coarse, teamPrefix) && e.Type != l.coarse {
		return fmt.Errorf("the leaf says %q, the payload %q", l.coarse, e.Type)
	}
	if e.Log != a.origin {
		return fmt.Errorf("recorded for the log %q", e.Log)
	}
	if floorDiv(e.RecordedAt, microsHour) != l.hour {
		return fmt.Errorf("recorded at %d µs, the leaf says hour %d", e.RecordedAt, l.hour)
	}
	a.payload[n] = &e
	return nil
}

func floorDiv(a, b int64) int64 {
	if a%b != 0 && a < 0 {
		return a/b - 1
	}
	return a / b
}

// checkComplete demands the payload of every public entry, unless entries that are disclosed say that the payloads of its
// day were destroyed, or will be, and that at least as many are as are missing. What the log says of itself is never
// destroyed.
func (a *audit) checkComplete() error {
	destroyed := make(map[int64]int64) // day → how many
	intended := make(map[int64]int64)  // day → how many more, by an announcement that is not yet done
	missing := make(map[int64]int64)   // day → how many
	for n, l := range a.leaves {
		e := a.payload[int64(n)]
		switch {
		case strings.HasPrefix(l.coarse, teamPrefix):
			a.private++
			continue
		case e == nil && permanent[l.coarse]:
			return fmt.Errorf("entry %d (%s) is held back; such entries are kept as long as the log", n, l.coarse)
		case e == nil:
			a.gone++
			missing[floorDiv(l.hour, hoursPerDay)]++
			continue
		}
		a.public++
		if e.Version > version || e.Type != "journal.destroyed" && e.Type != "journal.destruction_intended" {
			continue
		}
		var body struct {
			Class   string
			Day     int64 // since 1970-01-01
			Entries int64
		}
		if err := decode(e.Body, &body); err != nil || body.Entries < 0 {
			return fmt.Errorf("entry %d: %v", n, err)
		}
		switch {
		case teamClasses[body.Class]:
		case e.Type == "journal.destroyed":
			destroyed[body.Day] += body.Entries
			delete(intended, body.Day)
		default:
			intended[body.Day] = body.Entries
		}
	}
	for day, count := range missing {
		if covered := destroyed[day] + intended[day]; count > covered {
			return fmt.Errorf("%d public payloads of day %d are held back, and only %d were announced as destroyed", count, day, covered)
		}
	}
	fmt.Printf("payloads: %d public ones as committed, %d destroyed as announced, %d for the team only\n", a.public, a.gone, a.private)
	return nil
}

// checkProofs verifies every proof file: c2sp.org/tlog-proof@v1.
func (a *audit) checkProofs() error {
	count := 0
	err := filepath.WalkDir(filepath.Join(a.dir, "proof"), func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		n, err := a.checkProof(string(text))
		if err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(path), err)
		}
		if name := fmt.Sprintf("%d.tlog-proof", n); filepath.Base(path) != name {
			return fmt.Errorf("%s proves entry %d", filepath.Base(path), n)
		}
		count++
		return nil
	})
	if err == nil {
		fmt.Printf("proofs: %d inclusion proofs verified\n", count)
	}
	return err
}

func (a *audit) checkProof(text string) (int64, error) {
	head, checkpoint, found := strings.Cut(text, "\n\n")
	lines := strings.Split(head, "\n")
	if !found || lines[0] != "c2sp.org/tlog-proof@v1" {
		return 0, errors.New("not a tlog-proof")
	}
	lines = lines[1:]
	var extra string
	if len(lines) > 0 && strings.HasPrefix(lines[0], "extra ") {
		extra = strings.TrimPrefix(lines[0], "extra ")
		lines = lines[1:]
	}
	if len(lines) == 0 || !strings.HasPrefix(lines[0], "index ") {
		return 0, errors.New("it has no index")
	}
	n, err := strconv.ParseInt(strings.TrimPrefix(lines[0], "index "), 10, 64)
	if err != nil || n < 0 || n >= a.tree.N || lines[0] != fmt.Sprintf("index %d", n) {
		return 0, fmt.Errorf("%q is not an entry of this tree", lines[0])
	}
	var proof tlog.RecordProof
	for _, line := range lines[1:] {
		hash, err := parseHash(line)
		if err != nil {
			return 0, err
		}
		proof = append(proof, hash)
	}
	origin, tree, err := openCheckpoint([]byte(checkpoint), a.known)
	if err != nil {
		return 0, err
	}
	if origin != a.origin {
		return 0, fmt.Errorf("its checkpoint is of the log %q", origin)
	}
	if err := tlog.CheckRecord(proof, tree.N, tree.Hash, n, a.hashes[n]); err != nil {
		return 0, err
	}
	if err := a.checkExtra(n, extra); err != nil {
		return 0, err
	}
	return n, a.checkPrefix(tree)
}

// checkExtra demands that what a proof file carries along is the whole entry: the leaf, and the line that opens it.
func (a *audit) checkExtra(n int64, extra string) error {
	text, err := fromBase64(extra)
	if err != nil {
		return err
	}
	entry, opening, found := bytes.Cut(text, []byte("\n"))
	if !found || tlog.RecordHash(entry) != a.hashes[n] {
		return errors.New("its extra line is not the leaf that it proves")
	}
	line, err := a.line(n)
	if err == nil && string(opening) != line {
		err = errors.New("its extra line is not the one that discloses the entry")
	}
	return err
}

// line is the one of a payload bundle that discloses an entry; empty when none does.
func (a *audit) line(n int64) (string, error) {
	if a.payload[n] == nil {
		return "", nil
	}
	first := n - n%bundleWidth
	data, err := a.read("payload/" + numberPath(n/bundleWidth) + partial(min(a.tree.N-first, bundleWidth)))
	if err != nil {
		return "", err
	}
	for _, line := range strings.SplitAfter(string(data), "\n") {
		if strings.HasPrefix(line, fmt.Sprintf("%d ", n)) {
			return line, nil
		}
	}
	return "", fmt.Errorf("the line of entry %d is gone", n)
}

// checkPrefix demands that an older tree head is one that this tree had.
func (a *audit) checkPrefix(old tlog.Tree) error {
	if old.N > a.tree.N {
		return fmt.Errorf("it has %d entries, this export only %d: entries are missing", old.N, a.tree.N)
	}
	if old.N == 0 {
		return nil
	}
	proof, err := tlog.ProveTree(a.tree.N, old.N, a.stored)
	if err != nil {
		return err
	}
	if err := tlog.CheckTree(proof, a.tree.N, a.tree.Hash, old.N, old.Hash); err != nil {
		return fmt.Errorf("history was rewritten: %w", err)
	}
	return nil
}

func (a *audit) checkSince(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	head, _, _ := strings.Cut(string(text), "\n\n")
	if _, origin, err := readHead(head + "\n"); err == nil && origin == a.self.before {
		return fmt.Errorf("it is of the log %q, which this one continues: they can't be compared, and nothing is said against either", origin)
	}
	origin, tree, err := openCheckpoint(text, a.known)
	if err != nil {
		return err
	}
	if origin != a.origin {
		return fmt.Errorf("it is of the log %q", origin)
	}
	if err := a.checkPrefix(tree); err != nil {
		return err
	}
	fmt.Printf("since: consistent with the tree of %d entries\n", tree.N)
	return nil
}

// checkConsistency demands that the checkpoint in a proof continues the one that was kept, both signed by the log. The
// proof is what C2SP tlog-witness sends to a witness: the old size, the hashes, an empty line, the new checkpoint.
func checkConsistency(proofPath, sincePath string, vkeys []string) error {
	kept, err := os.ReadFile(sincePath)
	if err != nil {
		return err
	}
	origin, old, err := openCheckpoint(kept, vkeys)
	if err != nil {
		return fmt.Errorf("%s: %w", sincePath, err)
	}
	text, err := os.ReadFile(proofPath)
	if err != nil {
		return err
	}
	head, checkpoint, found := strings.Cut(string(text), "\n\n")
	lines := strings.Split(head, "\n")
	if !found || lines[0] != fmt.Sprintf("old %d", old.N) {
		return fmt.Errorf("%s does not prove anything of the %d entries that were kept", proofPath, old.N)
	}
	var proof tlog.TreeProof
	for _, line := range lines[1:] {
		hash, err := parseHash(line)
		if err != nil {
			return err
		}
		proof = append(proof, hash)
	}
	newOrigin, tree, err := openCheckpoint([]byte(checkpoint), vkeys)
	if err != nil {
		return fmt.Errorf("%s: %w", proofPath, err)
	}
	if newOrigin != origin {
		return fmt.Errorf("the proof is of the log %q, the checkpoint of %q", newOrigin, origin)
	}
	if err := tlog.CheckTree(proof, tree.N, tree.Hash, old.N, old.Hash); err != nil {
		return fmt.Errorf("history was rewritten: %w", err)
	}
	fmt.Printf("OK: the %d entries of %s continue the %d that were kept\n", tree.N, origin, old.N)
	return nil
}

// objective is one objective of one promise.
type objective struct {
	Promise   name
	Objective int64
}

// errLater is what can't be checked because a later release wrote it.
var errLater = errors.New("the policy in effect, or what a verdict is on, is of a later version")

// listed folds the log to what belongs beside it: the entry of the policy in effect (-1 when there is none that can be
// read), and by entry the latest verdicts on its objectives, whoever computed them.
func (a *audit) listed() (policy int64, verdicts map[int64]bool, err error) {
	policy = -1
	laterPolicy, laterVerdict := false, false
	inEffect := make(map[objective]string) // → revision
	type word struct {
		n        int64
		revision string
	}
	latest := make(map[objective]word)
	for n, l := range a.leaves {
		n := int64(n)
		e := a.payload[n]
		switch {
		case l.coarse == "policy.applied":
			policy = -1
			inEffect = make(map[objective]string)
			laterPolicy = e != nil && e.Version > version
			if e == nil || laterPolicy {
				continue
			}
			var body struct {
				Promises []struct {
					ID         name
					Revision   string
					Objectives []json.RawMessage
				}
			}
			if err := decode(e.Body, &body); err != nil {
				return 0, nil, fmt.Errorf("entry %d: %w", n, err)
			}
			policy = n
			for _, p := range body.Promises {
				for number := range p.Objectives {
					inEffect[objective{p.ID, int64(number)}] = p.Revision
				}
			}
		case l.coarse == "promise.verdict" && e != nil:
			var body struct {
				Promise   name
				Objective int64
				Revision  string
			}
			err := decode(e.Body, &body)
			if e.Version > version && err != nil {
				laterVerdict = true
				continue
			}
			if err != nil {
				return 0, nil, fmt.Errorf("entry %d: %w", n, err)
			}
			latest[objective{body.Promise, body.Objective}] = word{n, body.Revision}
		}
	}
	if laterPolicy || laterVerdict {
		return 0, nil, errLater
	}
	verdicts = make(map[int64]bool)
	for what, said := range latest {
		if revision, ok := inEffect[what]; ok && revision == said.revision {
			verdicts[said.n] = true
		}
	}
	return policy, verdicts, nil
}

// checkVerdicts demands that verdicts.json repeats, byte for byte, the latest verdict on each objective in effect, and no
// other.
func (a *audit) checkVerdicts() error {
	var verdicts []struct {
		Sequence int64
		Verdict  json.RawMessage
	}
	if _, err := a.readJSON("verdicts.json", &verdicts); err != nil {
		return err
	}
	_, wanted, err := a.listed()
	if err == errLater {
		a.doubts = append(a.doubts, err.Error())
		return nil
	}
	if err != nil {
		return err
	}
	for _, v := range verdicts {
		if !wanted[v.Sequence] {
			return fmt.Errorf("entry %d is not the latest verdict on an objective in effect, or is listed twice", v.Sequence)
		}
		if !bytes.Equal(a.payload[v.Sequence].Body, v.Verdict) {
			return fmt.Errorf("entry %d says something else", v.Sequence)
		}
		delete(wanted, v.Sequence)
		if _, err := a.read(fmt.Sprintf("proof/%d.tlog-proof", v.Sequence)); err != nil {
			return err
		}
	}
	for n := range wanted {
		return fmt.Errorf("the verdict of entry %d is left out", n)
	}
	fmt.Printf("verdicts.json: %d verdicts, the latest as journaled\n", len(verdicts))
	return nil
}

// checkPolicy demands that policy.json is the newest policy of the log, byte for byte, and absent when there is none to be
// read.
func (a *audit) checkPolicy() error {
	policy, _, err := a.listed()
	if err == errLater {
		return nil
	}
	if err != nil {
		return err
	}
	text, err := a.read("policy.json")
	switch {
	case errors.Is(err, fs.ErrNotExist) && policy < 0:
		return nil
	case err != nil:
		return err
	case policy < 0:
		return errors.New("the newest policy of the log is not disclosed")
	case !bytes.Equal(a.payload[policy].Body, text):
		return fmt.Errorf("entry %d, the newest policy, says something else", policy)
	}
	fmt.Printf("policy.json: as journaled in entry %d\n", policy)
	return nil
}

// readJSON reads a file that is in an export once there is something to put in it.
func (a *audit) readJSON(path string, into interface{}) (bool, error) {
	data, err := a.read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, decode(data, into)
}

// sameJSON compares values, not spelling; numbers by their digits, so that none is rounded.
func sameJSON(a, b json.RawMessage) bool {
	value := func(raw json.RawMessage) (v interface{}, err error) {
		decoder := json.NewDecoder(bytes.NewReader(raw))
		decoder.UseNumber()
		err = decoder.Decode(&v)
		return v, err
	}
	left, err := value(a)
	if err != nil {
		return false
	}
	right, err := value(b)
	return err == nil && reflect.DeepEqual(left, right)
}
