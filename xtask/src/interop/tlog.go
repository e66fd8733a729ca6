// Checks a log with Go's own transparency-log packages, and with no code of ours.
//
//	tlog inclusion VKEY RECEIPT PROOF    a receipt stands in the log that the signed checkpoint of its proof describes
//	tlog tiles     VKEY LOG              all entries and tiles in the log's folder belong to its signed root
//	tlog growth    VKEY OLD REQUEST      a witness request extends the old checkpoint and rewrites nothing
//
// VKEY and OLD are files. It prints one line, and ends with 1 where a check fails. Formats: c2sp.org/tlog-proof,
// c2sp.org/tlog-tiles, c2sp.org/tlog-witness.
package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Every full tile of a tiled log is this high.
const height = 8

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Println("refused:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 3 {
		return errors.New("usage: tlog inclusion|tiles|growth VKEY FILE...")
	}
	key, err := os.ReadFile(args[1])
	if err != nil {
		return err
	}
	verifier, err := note.NewVerifier(strings.TrimSpace(string(key)))
	if err != nil {
		return err
	}
	switch {
	case args[0] == "inclusion" && len(args) == 4:
		return inclusion(verifier, args[2], args[3])
	case args[0] == "tiles" && len(args) == 3:
		return tiles(verifier, args[2])
	case args[0] == "growth" && len(args) == 4:
		return growth(verifier, args[2], args[3])
	}
	return errors.New("unknown check " + args[0])
}

func inclusion(verifier note.Verifier, receipt, proof string) error {
	leaf, err := os.ReadFile(receipt)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(proof)
	if err != nil {
		return err
	}
	head, checkpoint, found := bytes.Cut(text, []byte("\n\n"))
	lines := strings.Split(string(head), "\n")
	if !found || lines[0] != "c2sp.org/tlog-proof@v1" {
		return errors.New("not a tlog-proof")
	}
	lines = lines[1:]
	if len(lines) > 0 && strings.HasPrefix(lines[0], "extra ") {
		lines = lines[1:]
	}
	if len(lines) == 0 || !strings.HasPrefix(lines[0], "index ") {
		return errors.New("the proof has no index")
	}
	index, err := strconv.ParseInt(strings.TrimPrefix(lines[0], "index "), 10, 64)
	if err != nil {
		return err
	}
	hashes, err := parseHashes(lines[1:])
	if err != nil {
		return err
	}
	tree, err := open(verifier, checkpoint)
	if err != nil {
		return err
	}
	if err := tlog.CheckRecord(hashes, tree.N, tree.Hash, index, tlog.RecordHash(leaf)); err != nil {
		return err
	}
	fmt.Printf("included: entry %d of %d\n", index, tree.N)
	return nil
}

func tiles(verifier note.Verifier, folder string) error {
	checkpoint, err := os.ReadFile(filepath.Join(folder, "checkpoint"))
	if err != nil {
		return err
	}
	tree, err := open(verifier, checkpoint)
	if err != nil {
		return err
	}
	// All hashes are computed from the entries. `tlog.TileHashReader` is not asked: before golang.org/x/mod 0.40 it leaves
	// tiles unchecked (CVE-2026-56865).
	var stored hashes
	for first := int64(0); first < tree.N; first += 1 << height {
		width := widthOf(tree.N - first)
		bundle, err := os.ReadFile(tilePath(folder, "entries", first>>height, width))
		if err != nil {
			return err
		}
		for index := first; index < first+int64(width); index++ {
			if len(bundle) < 2 || len(bundle)-2 < int(binary.BigEndian.Uint16(bundle)) {
				return fmt.Errorf("entry %d is cut off", index)
			}
			end := 2 + int(binary.BigEndian.Uint16(bundle))
			more, err := tlog.StoredHashes(index, bundle[2:end], stored)
			if err != nil {
				return err
			}
			stored, bundle = append(stored, more...), bundle[end:]
		}
		if len(bundle) > 0 {
			return fmt.Errorf("bytes after entry %d are not in the tree", first+int64(width)-1)
		}
	}
	root, err := tlog.TreeHash(tree.N, stored)
	if err != nil {
		return err
	}
	if root != tree.Hash {
		return errors.New("the entries do not lead to the signed root")
	}
	for level, left := 0, tree.N; left > 0; level, left = level+1, left>>height {
		for first := int64(0); first < left; first += 1 << height {
			tile := tlog.Tile{H: height, L: level, N: first >> height, W: widthOf(left - first)}
			computed, err := tlog.ReadTileData(tile, stored)
			if err != nil {
				return err
			}
			path := tilePath(folder, strconv.Itoa(tile.L), tile.N, tile.W)
			found, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if !bytes.Equal(found, computed) {
				return errors.New("a tile differs from the entries: " + path)
			}
		}
	}
	fmt.Printf("complete: all %d entries lead to the signed root\n", tree.N)
	return nil
}

func growth(verifier note.Verifier, old, request string) error {
	text, err := os.ReadFile(old)
	if err != nil {
		return err
	}
	before, err := open(verifier, text)
	if err != nil {
		return err
	}
	text, err = os.ReadFile(request)
	if err != nil {
		return err
	}
	head, checkpoint, found := bytes.Cut(text, []byte("\n\n"))
	lines := strings.Split(string(head), "\n")
	if !found || lines[0] != fmt.Sprintf("old %d", before.N) {
		return fmt.Errorf("the request is not from size %d", before.N)
	}
	hashes, err := parseHashes(lines[1:])
	if err != nil {
		return err
	}
	after, err := open(verifier, checkpoint)
	if err != nil {
		return err
	}
	if err := tlog.CheckTree(hashes, after.N, after.Hash, before.N, before.Hash); err != nil {
		return err
	}
	fmt.Printf("append-only: %d entries, then %d\n", before.N, after.N)
	return nil
}

// open checks the log's signature; it does not trust the name inside the checkpoint.
func open(verifier note.Verifier, signed []byte) (tlog.Tree, error) {
	opened, err := note.Open(signed, note.VerifierList(verifier))
	if err != nil {
		return tlog.Tree{}, err
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) < 4 || lines[0] != verifier.Name() {
		return tlog.Tree{}, errors.New("the checkpoint is of another log")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return tlog.Tree{}, err
	}
	root, err := tlog.ParseHash(lines[2])
	return tlog.Tree{N: size, Hash: root}, err
}

func parseHashes(lines []string) ([]tlog.Hash, error) {
	var hashes []tlog.Hash
	for _, line := range lines {
		hash, err := tlog.ParseHash(line)
		if err != nil {
			return nil, err
		}
		hashes = append(hashes, hash)
	}
	return hashes, nil
}

// hashes holds a tree's hashes in the order of `tlog.StoredHashIndex`.
type hashes []tlog.Hash

func (all hashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	var found []tlog.Hash
	for _, index := range indexes {
		if index >= int64(len(all)) {
			return nil, errors.New("the tree has no such hash")
		}
		found = append(found, all[index])
	}
	return found, nil
}

// widthOf is the width of a tile where so many hashes are left at its level.
func widthOf(left int64) int {
	if left > 1<<height {
		return 1 << height
	}
	return int(left)
}

// tilePath is x001/x234/067 for number 1234067, with .p/W for a tile that is not full.
func tilePath(folder, level string, number int64, width int) string {
	name := fmt.Sprintf("%03d", number%1000)
	for number >= 1000 {
		number /= 1000
		name = fmt.Sprintf("x%03d/%s", number%1000, name)
	}
	if width < 1<<height {
		name += fmt.Sprintf(".p/%d", width)
	}
	return filepath.Join(folder, "tile", level, name)
}
