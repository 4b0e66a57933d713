package main

// Reading JSON as the documents mean it: a key is spelled exactly so, is there once, and may be missing only where the
// document says *absent*; a name is a name. encoding/json is kinder than that.

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"unicode/utf8"
)

// A name is an identifier of docs/evaluator.md, "Numbers and intervals".
type name string

var isName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$`)

// object gives the members of an object in valid JSON, and refuses a key that is there twice.
func object(raw json.RawMessage) (map[string]json.RawMessage, error) {
	if len(raw) == 0 || raw[0] != '{' {
		return nil, errors.New("not an object")
	}
	members := make(map[string]json.RawMessage)
	for _, member := range split(raw) {
		end := valueEnd(member)
		var key string
		if err := json.Unmarshal(member[:end], &key); err != nil {
			return nil, err
		}
		if _, twice := members[key]; twice {
			return nil, fmt.Errorf("the key %q is there twice", key)
		}
		value := bytes.TrimLeft(member[end:], space)
		members[key] = bytes.Trim(value[1:], space) // after the colon
	}
	return members, nil
}

const space = " \t\r\n"

// split gives what stands between the commas of an object or an array in valid JSON.
func split(raw json.RawMessage) []json.RawMessage {
	var parts []json.RawMessage
	for rest := bytes.TrimLeft(raw[1:], space); rest[0] != '}' && rest[0] != ']'; {
		end := valueEnd(rest)
		for rest[end] != ',' && rest[end] != '}' && rest[end] != ']' {
			if rest[end] == ':' {
				end += 1 + len(rest[end+1:]) - len(bytes.TrimLeft(rest[end+1:], space))
				end += valueEnd(rest[end:])
			} else {
				end++ // white space
			}
		}
		parts = append(parts, bytes.TrimRight(rest[:end], space))
		if rest[end] == ',' {
			end++
		}
		rest = bytes.TrimLeft(rest[end:], space)
	}
	return parts
}

// valueEnd is the length of the value that valid JSON begins with.
func valueEnd(raw json.RawMessage) int {
	depth, inString := 0, false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
			if !inString && depth == 0 {
				return i + 1
			}
		case inString:
		case c == '{' || c == '[':
			depth++
		case depth > 0 && (c == '}' || c == ']'):
			depth--
			if depth == 0 {
				return i + 1
			}
		case depth == 0 && strings.IndexByte(",:}]"+space, c) >= 0:
			return i
		}
	}
	return len(raw)
}

// decode reads raw into what `into` points to. The keys of a struct are the names of its fields in snake case; those that
// are pointers, or tagged `absent`, may be missing or null. Keys that it does not have are ignored.
func decode(raw json.RawMessage, into interface{}) error {
	if !utf8.Valid(raw) || !json.Valid(raw) {
		return errors.New("not JSON")
	}
	return decodeValue(bytes.Trim(raw, space), reflect.ValueOf(into).Elem())
}

func decodeValue(raw json.RawMessage, v reflect.Value) error {
	isNull := bytes.Equal(raw, []byte("null"))
	switch {
	case v.Type() == reflect.TypeOf(json.RawMessage{}):
		v.SetBytes(append([]byte{}, raw...))
		return nil
	case v.Kind() == reflect.Ptr:
		if isNull {
			return nil
		}
		v.Set(reflect.New(v.Type().Elem()))
		return decodeValue(raw, v.Elem())
	case isNull:
		return errors.New("null, where there must be something")
	case v.Kind() == reflect.Struct:
		return decodeStruct(raw, v)
	case v.Kind() == reflect.Slice:
		if raw[0] != '[' {
			return errors.New("not an array")
		}
		items := split(raw)
		v.Set(reflect.MakeSlice(v.Type(), len(items), len(items)))
		for i, item := range items {
			if err := decodeValue(item, v.Index(i)); err != nil {
				return err
			}
		}
		return nil
	}
	if err := json.Unmarshal(raw, v.Addr().Interface()); err != nil {
		return err
	}
	if v.Type() == reflect.TypeOf(name("")) && !isName.MatchString(v.String()) {
		return fmt.Errorf("%.80q is not a name", v.String())
	}
	return nil
}

func decodeStruct(raw json.RawMessage, v reflect.Value) error {
	members, err := object(raw)
	if err != nil {
		return err
	}
	for i := 0; i < v.NumField(); i++ {
		field := v.Type().Field(i)
		if field.PkgPath != "" {
			continue
		}
		key := field.Tag.Get("key")
		if key == "" {
			key = strings.ToLower(field.Name)
		}
		_, absent := field.Tag.Lookup("absent")
		member, has := members[key]
		if !has {
			if field.Type.Kind() == reflect.Ptr || absent {
				continue
			}
			return fmt.Errorf("the key %q is missing", key)
		}
		if err := decodeValue(member, v.Field(i)); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	return nil
}

// fromBase64 reads the one spelling of some bytes.
func fromBase64(text string) ([]byte, error) {
	decoded, err := base64.StdEncoding.DecodeString(text)
	if err == nil && base64.StdEncoding.EncodeToString(decoded) != text {
		err = errors.New("not the usual base64")
	}
	return decoded, err
}
