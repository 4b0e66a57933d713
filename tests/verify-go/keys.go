package main

// What a log says of itself: its first entry, its keys, its clock. docs/log.md, "What a log says of itself" and "Rotating
// the key".

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
)

const (
	keysMax        = 256
	unreported     = int64(2e6)   // by how much the clock may go back without a word
	reportedWithin = int64(120e6) // log time within which a step back must be explained
	aheadMax       = int64(600e6) // by how much the newest entry may be dated after now
)

// An announcement says that a key takes the place of another.
type announcement struct {
	sequence  int64
	vkey, old string
}

// selves is what the log says of itself.
type selves struct {
	opened    string
	announced []announcement
	retired   map[string]int64 // key → entry
	before    string           // the origin of the log that this one continues
}

func (s *selves) all() []string {
	keys := []string{s.opened}
	for _, a := range s.announced {
		keys = append(keys, a.vkey)
	}
	return keys
}

func (s *selves) knows(vkey string) bool {
	for _, known := range s.all() {
		if known == vkey {
			return true
		}
	}
	return false
}

func (s *selves) inUse(vkey string) bool {
	_, retired := s.retired[vkey]
	return s.knows(vkey) && !retired
}

func (s *selves) isReplaced(vkey string) bool {
	for _, a := range s.announced {
		if a.old == vkey {
			return true
		}
	}
	return false
}

// checkSelf reads the entries in which the log speaks of itself: they are where they must be, and its keys form a chain.
func (a *audit) checkSelf() error {
	a.self.retired = make(map[string]int64)
	for i, l := range a.leaves {
		n := int64(i)
		if (l.coarse == "journal.opened") != (n == 0) || l.coarse == "journal.continued" && n != 1 {
			return fmt.Errorf("entry %d is a %s, and can't be one there", n, l.coarse)
		}
		e := a.payload[n]
		if e == nil {
			continue
		}
		if e.Version > version {
			continue
		}
		if err := a.learn(n, e); err != nil {
			return fmt.Errorf("entry %d: %w", n, err)
		}
	}
	return nil
}

func (a *audit) key(text string) (string, error) {
	verifier, err := note.NewVerifier(text)
	if err != nil {
		return "", fmt.Errorf("%q: %w", text, err)
	}
	if verifier.Name() != a.origin {
		return "", fmt.Errorf("%q is no key of this log", text)
	}
	return text, nil
}

func (a *audit) learn(n int64, e *envelope) error {
	var body struct {
		Origin, Vkey, Replaces *string
		OldOrigin              *string `key:"old_origin"`
		OldCheckpoint          *string `key:"old_checkpoint"`
		OldSizeAtHand          *int64  `key:"old_size_at_hand"`
		Reason                 *string
	}
	wanted := func(all ...*string) error {
		for _, text := range all {
			if text == nil {
				return errors.New("a key of the body is missing")
			}
		}
		return nil
	}
	switch e.Type {
	case "journal.opened", "journal.continued", "journal.key_announced", "journal.key_retired":
		if err := decode(e.Body, &body); err != nil {
			return err
		}
	}
	var err error
	switch e.Type {
	case "journal.opened":
		if err = wanted(body.Origin, body.Vkey); err != nil {
			return err
		}
		if *body.Origin != a.origin {
			return fmt.Errorf("it opens the log %q", *body.Origin)
		}
		a.self.opened, err = a.key(*body.Vkey)
	case "journal.continued":
		if err = wanted(body.OldOrigin, body.OldCheckpoint, body.Reason); err != nil || body.OldSizeAtHand == nil {
			return errors.New("a key of the body is missing")
		}
		// Its signatures are for the one to check who knows a key of that log.
		text, _, found := strings.Cut(*body.OldCheckpoint, "\n\n")
		tree, origin, err := readHead(text + "\n")
		if !found || err != nil || origin != *body.OldOrigin || origin == a.origin {
			return fmt.Errorf("it cites no checkpoint (%d entries) of another log: %v", tree.N, err)
		}
		a.self.before = origin
	case "journal.key_announced":
		if err = wanted(body.Vkey, body.Replaces); err != nil {
			return err
		}
		next, err := a.key(*body.Vkey)
		if err != nil {
			return err
		}
		if a.self.knows(next) || !a.self.inUse(*body.Replaces) {
			return errors.New("it announces a key that is not new, or in the place of one that is not in use")
		}
		a.self.announced = append(a.self.announced, announcement{n, next, *body.Replaces})
		if len(a.self.announced) > keysMax {
			return errors.New("a log has no more keys than this")
		}
	case "journal.key_retired":
		if err = wanted(body.Vkey); err != nil {
			return err
		}
		if !a.self.inUse(*body.Vkey) || !a.self.isReplaced(*body.Vkey) {
			return errors.New("it retires a key that is not in use, or that nothing replaces")
		}
		a.self.retired[*body.Vkey] = n
	}
	return err
}

// checkKeys follows the rotations from the keys that the reader knows to one that signed the checkpoint.
func (a *audit) checkKeys(pinned []string) error {
	own := a.self.all()
	if a.tree.N == 0 {
		own = []string{a.vkey}
	}
	trusted := make(map[string]bool)
	known := append([]string{}, own...)
	for _, vkey := range pinned {
		trusted[vkey] = true
		if !a.self.knows(vkey) {
			known = append(known, vkey)
		}
	}
	if len(pinned) == 0 {
		for _, vkey := range own {
			trusted[vkey] = true
		}
	}
	a.known = known
	isOwn := false
	for _, vkey := range known {
		isOwn = isOwn || vkey == a.vkey
	}
	if !isOwn {
		return errors.New("vkey is no key of the log")
	}
	if err := a.followRotations(known, trusted); err != nil {
		return fmt.Errorf("rotations: %w", err)
	}
	signers, err := signersOf(a.checkpoint, known)
	if err != nil {
		return err
	}
	for _, vkey := range signers {
		if _, retired := a.self.retired[vkey]; trusted[vkey] && !retired {
			return nil
		}
	}
	return errors.New("it is not signed by a key that is in use and that you trust, or that such a key led to")
}

func (a *audit) followRotations(known []string, trusted map[string]bool) error {
	text, err := a.read("rotations")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	shown := make(map[int64]bool)
	for _, text := range splitNotes(string(text)) {
		signers, err := signersOf([]byte(text), known)
		if err != nil {
			return err
		}
		body, _, _ := strings.Cut(text, "\n\n")
		tree, origin, err := readHead(body + "\n")
		if err != nil {
			return err
		}
		if origin != a.origin {
			return fmt.Errorf("a note of the log %q", origin)
		}
		if err := a.checkPrefix(tree); err != nil {
			return err
		}
		signed := make(map[string]bool)
		for _, vkey := range signers {
			signed[vkey] = true
		}
		found := false
		for _, announced := range a.self.announced {
			if announced.sequence < tree.N && signed[announced.vkey] && signed[announced.old] {
				found, shown[announced.sequence] = true, true
				trusted[announced.vkey] = trusted[announced.vkey] || trusted[announced.old]
			}
		}
		if !found {
			return errors.New("a note that is not signed by both keys of an announcement among its entries")
		}
	}
	for _, announced := range a.self.announced {
		if _, retired := a.self.retired[announced.old]; retired && !shown[announced.sequence] {
			return fmt.Errorf("no note is signed by both keys of entry %d, whose old key is retired", announced.sequence)
		}
	}
	return nil
}

// splitNotes takes apart notes that follow one another: after its signatures, a line that is none begins the next one.
func splitNotes(text string) []string {
	var notes []string
	current, signed := "", false
	for _, line := range strings.SplitAfter(text, "\n") {
		isSignature := strings.HasPrefix(line, "— ")
		if signed && !isSignature {
			notes, current, signed = append(notes, current), "", false
		}
		if current == "" && (line == "\n" || line == "") {
			continue
		}
		current += line
		signed = signed || isSignature
	}
	if current != "" {
		notes = append(notes, current)
	}
	return notes
}

// signersOf says which of the keys signed a note. A line of one of them that does not verify is an error.
func signersOf(text []byte, vkeys []string) ([]string, error) {
	verifiers := make([]note.Verifier, len(vkeys))
	for i, vkey := range vkeys {
		verifier, err := note.NewVerifier(vkey)
		if err != nil {
			return nil, fmt.Errorf("vkey %q: %w", vkey, err)
		}
		verifiers[i] = verifier
	}
	opened, err := note.Open(text, note.VerifierList(verifiers...))
	var unverified *note.UnverifiedNoteError
	if errors.As(err, &unverified) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var signers []string
	for _, signature := range opened.Sigs {
		for i, verifier := range verifiers {
			if verifier.Name() == signature.Name && verifier.KeyHash() == signature.Hash {
				signers = append(signers, vkeys[i])
			}
		}
	}
	return signers, nil
}

// checkClock demands that time runs forward, but for a step back that the log explains.
func (a *audit) checkClock() error {
	type back struct{ sequence, from, to int64 }
	var pending *back
	var last *int64
	for i, l := range a.leaves {
		n := int64(i)
		e := a.payload[n]
		earliest, latest := l.hour*microsHour, (l.hour+1)*microsHour-1
		var steppedBack *int64
		if e != nil {
			earliest, latest = e.RecordedAt, e.RecordedAt
			if e.Type == "engine.clock_stepped" && e.Version <= version {
				var body struct{ From, To int64 }
				if err := decode(e.Body, &body); err != nil {
					return fmt.Errorf("entry %d: %w", n, err)
				}
				by := minus(body.From, body.To)
				steppedBack = &by
			}
		}
		switch {
		case last == nil:
			last = &earliest
		case plus(latest, unreported) < *last:
			if pending == nil {
				pending = &back{n, *last, latest}
			}
			pending.from, pending.to = max(pending.from, *last), min(pending.to, latest)
			last = &earliest
		case earliest > *last:
			last = &earliest
		}
		if pending == nil {
			continue
		}
		if earliest > plus(pending.to, reportedWithin) {
			return fmt.Errorf("entry %d: the clock goes back from %d to %d, and nothing says so", pending.sequence, pending.from, pending.to)
		}
		if steppedBack != nil && minus(pending.from, pending.to) <= plus(*steppedBack, unreported) {
			pending = nil
		}
	}
	a.newest = last
	if pending != nil {
		fmt.Printf("clock: it goes back at entry %d; the log ends before it could say why\n", pending.sequence)
	}
	return nil
}

// checkAge demands that the newest entry is not older than allowed, and not dated after now.
func (a *audit) checkAge(maxAge time.Duration, now time.Time) error {
	if a.newest == nil || *a.newest < now.Add(-maxAge).UnixMicro() {
		return errors.New("the newest entry is older than that")
	}
	if *a.newest > now.UnixMicro()+aheadMax {
		return errors.New("the newest entry is dated after now")
	}
	return nil
}

// checkForm demands of an envelope what docs/log.md says of each of its keys.
func (e *envelope) checkForm() error {
	hex32 := func(text string) bool {
		return len(text) == 32 && strings.Trim(text, "0123456789abcdef") == ""
	}
	if !hex32(e.Installation) || !hex32(e.Boot) {
		return errors.New("installation and boot are 32 hexadecimal digits")
	}
	if e.Version < 0 || e.Version > 65535 {
		return errors.New("version is out of range")
	}
	return nil
}
