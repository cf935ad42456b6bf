// Interop checks a tlog-tiles site, and proofs from the log behind it, with the tools that others use.
//
// It reads one JSON object from standard input (see request) and ends with status 0 where everything agrees.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/transparency-dev/formats/log"
	tlogproof "github.com/transparency-dev/formats/proof"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/fsck"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type request struct {
	Site        string        `json:"site"`
	Origin      string        `json:"origin"`
	Key         string        `json:"key"`
	Inclusion   []inclusion   `json:"inclusion"`
	Consistency []consistency `json:"consistency"`
}

type inclusion struct {
	Leaf  string `json:"leaf"`
	Proof string `json:"proof"`
}

type consistency struct {
	Size uint64   `json:"size"`
	Root []byte   `json:"root"`
	Path [][]byte `json:"path"`
}

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	var asked request
	if err := json.NewDecoder(os.Stdin).Decode(&asked); err != nil {
		return err
	}
	verifier, err := note.NewVerifier(asked.Key)
	if err != nil {
		return fmt.Errorf("note.NewVerifier: %w", err)
	}
	raw, err := os.ReadFile(filepath.Join(asked.Site, "checkpoint"))
	if err != nil {
		return err
	}
	point, err := open(raw, asked.Origin, verifier)
	if err != nil {
		return err
	}
	site := client.FileFetcher{Root: asked.Site}
	if err := fsck.New(asked.Origin, verifier, site, leafHashes, fsck.Opts{N: 2}).Check(ctx); err != nil {
		return fmt.Errorf("fsck: %w", err)
	}
	tree, reader, err := readTree(asked.Site, point)
	if err != nil {
		return err
	}
	for _, item := range asked.Inclusion {
		if err := checkInclusion(item, asked.Origin, verifier, tree, reader); err != nil {
			return err
		}
	}
	for _, item := range asked.Consistency {
		if err := checkConsistency(item, tree, reader); err != nil {
			return fmt.Errorf("consistency with %d: %w", item.Size, err)
		}
	}
	return nil
}

// open verifies the note with sumdb/note and takes its text apart with transparency-dev/formats.
func open(raw []byte, origin string, verifier note.Verifier) (*log.Checkpoint, error) {
	if _, err := note.Open(raw, note.VerifierList(verifier)); err != nil {
		return nil, fmt.Errorf("note.Open: %w", err)
	}
	point, rest, _, err := log.ParseCheckpoint(raw, origin, verifier)
	if err != nil {
		return nil, fmt.Errorf("log.ParseCheckpoint: %w", err)
	}
	if len(rest) != 0 {
		return nil, fmt.Errorf("a checkpoint with extension lines: %q", rest)
	}
	return point, nil
}

func leafHashes(bundle []byte) ([][]byte, error) {
	var entries api.EntryBundle
	if err := entries.UnmarshalText(bundle); err != nil {
		return nil, err
	}
	var hashes [][]byte
	for _, entry := range entries.Entries {
		hashes = append(hashes, rfc6962.DefaultHasher.HashLeaf(entry))
	}
	return hashes, nil
}

// tiles reads hash tiles for sumdb/tlog, which has the height of a tile in its paths.
type tiles struct{ site string }

func (tiles) Height() int { return 8 }

func (t tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var data [][]byte
	for _, tile := range wanted {
		path := strings.Replace(tile.Path(), "tile/8/", "tile/", 1)
		read, err := os.ReadFile(filepath.Join(t.site, path))
		if err != nil {
			return nil, err
		}
		data = append(data, read)
	}
	return data, nil
}

func (tiles) SaveTiles([]tlog.Tile, [][]byte) {}

// readTree computes the root from the tiles with sumdb/tlog and compares it with the checkpoint's.
func readTree(site string, point *log.Checkpoint) (tlog.Tree, tlog.HashReader, error) {
	tree := tlog.Tree{N: int64(point.Size), Hash: tlog.Hash(point.Hash)}
	if tree.N == 0 {
		if !bytes.Equal(point.Hash, rfc6962.DefaultHasher.EmptyRoot()) {
			return tree, nil, fmt.Errorf("the root of an empty tree is %x", point.Hash)
		}
		return tree, nil, nil
	}
	reader := tlog.TileHashReader(tree, tiles{site})
	root, err := tlog.TreeHash(tree.N, reader)
	if err == nil && root != tree.Hash {
		err = fmt.Errorf("root %s, not %s", root, tree.Hash)
	}
	return tree, reader, err
}

func checkInclusion(item inclusion, origin string, verifier note.Verifier, tree tlog.Tree, reader tlog.HashReader) error {
	var parsed tlogproof.TLogProof
	if err := parsed.Unmarshal([]byte(item.Proof)); err != nil {
		return fmt.Errorf("TLogProof.Unmarshal: %w", err)
	}
	if !bytes.Equal(parsed.Marshal(), []byte(item.Proof)) {
		return fmt.Errorf("entry %d: a tlog-proof that is written otherwise by transparency-dev/formats", parsed.Index)
	}
	point, err := open(parsed.Checkpoint, origin, verifier)
	if err != nil {
		return err
	}
	var path [][]byte
	var record tlog.RecordProof
	for _, hash := range parsed.Hashes {
		path = append(path, hash[:])
		record = append(record, tlog.Hash(hash))
	}
	leaf := rfc6962.DefaultHasher.HashLeaf([]byte(item.Leaf))
	if err := proof.VerifyInclusion(rfc6962.DefaultHasher, parsed.Index, point.Size, leaf, path, point.Hash); err != nil {
		return fmt.Errorf("merkle: entry %d: %w", parsed.Index, err)
	}
	index := int64(parsed.Index)
	if err := tlog.CheckRecord(record, tree.N, tree.Hash, index, tlog.RecordHash([]byte(item.Leaf))); err != nil {
		return fmt.Errorf("tlog: entry %d: %w", index, err)
	}
	own, err := tlog.ProveRecord(tree.N, index, reader)
	if err != nil {
		return err
	}
	return same(own, record)
}

func checkConsistency(item consistency, tree tlog.Tree, reader tlog.HashReader) error {
	size := uint64(tree.N)
	if err := proof.VerifyConsistency(rfc6962.DefaultHasher, item.Size, size, item.Path, item.Root, tree.Hash[:]); err != nil {
		return fmt.Errorf("merkle: %w", err)
	}
	if item.Size == 0 {
		return nil // sumdb/tlog has no proof from the empty tree
	}
	var path tlog.TreeProof
	for _, hash := range item.Path {
		path = append(path, tlog.Hash(hash))
	}
	if err := tlog.CheckTree(path, tree.N, tree.Hash, int64(item.Size), tlog.Hash(item.Root)); err != nil {
		return fmt.Errorf("tlog: %w", err)
	}
	own, err := tlog.ProveTree(tree.N, int64(item.Size), reader)
	if err != nil {
		return err
	}
	return same(own, path)
}

func same(own, given []tlog.Hash) error {
	if len(own) != len(given) {
		return fmt.Errorf("a proof of %d hashes, where sumdb/tlog has %d", len(given), len(own))
	}
	for i := range own {
		if own[i] != given[i] {
			return fmt.Errorf("hash %d of a proof is not that of sumdb/tlog", i)
		}
	}
	return nil
}
