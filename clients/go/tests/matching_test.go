package tests

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// The patterns of the conformance scenarios; clients/conformance/README.md says what each one means. Values are those of YAML or JSON:
// nil, bool, numbers, text, []any, and mappings as object.
type object = map[string]any

var variable = regexp.MustCompile(`\$\{(\w+)\}`)

// resolve returns the value with variables substituted.
func resolve(value any, variables object) (any, error) {
	switch value := value.(type) {
	case object:
		return resolveObject(value, variables)
	case []any:
		list := make([]any, 0, len(value))
		for _, entry := range value {
			resolved, err := resolve(entry, variables)
			if err != nil {
				return nil, err
			}
			list = append(list, resolved)
		}
		return list, nil
	case string:
		return resolveText(value, variables)
	}
	return value, nil
}

func resolveObject(value, variables object) (any, error) {
	resolved := object{}
	for key, entry := range value {
		key, err := resolve(key, variables)
		if err != nil {
			return nil, err
		}
		if resolved[key.(string)], err = resolve(entry, variables); err != nil {
			return nil, err
		}
	}
	times, repeated := resolved["$times"].(int)
	if !repeated {
		return resolved, nil
	}
	if text, ok := resolved["$text"].(string); ok {
		return strings.Repeat(text, times), nil
	}
	list := make([]any, times)
	for i := range list {
		list[i] = resolved["$list"]
	}
	return list, nil
}

func resolveText(value string, variables object) (any, error) {
	for _, found := range variable.FindAllStringSubmatch(value, -1) {
		saved, ok := variables[found[1]]
		if !ok {
			return nil, fmt.Errorf("nothing was saved as %s", found[1])
		}
		if found[0] == value {
			return saved, nil
		}
		if !isScalar(saved) {
			return nil, fmt.Errorf("%s is not text", found[1])
		}
	}
	return variable.ReplaceAllStringFunc(value, func(name string) string { return text(variables[name[2:len(name)-1]]) }), nil
}

func isScalar(value any) bool {
	switch value.(type) {
	case string, bool, int, int64, uint64, json.Number:
		return true
	}
	return false
}

func text(value any) string { return fmt.Sprint(value) }

// isMissing treats nil as missing.
func isMissing(value any) bool {
	if list, ok := value.([]any); ok {
		return len(list) == 0
	}
	if !isScalar(value) {
		return value == nil
	}
	return text(value) == "" || text(value) == "0" || text(value) == "false"
}

func mismatch(path string, pattern, actual any) error {
	if path == "" {
		path = "the top"
	}
	if actual == nil {
		actual = "nothing"
	}
	return fmt.Errorf("at %s: expected %v, got %v", path, pattern, actual)
}

// match returns an error if the value does not match the pattern; values that the pattern saves go into saved.
func match(pattern, actual any, saved object, path string) error {
	if mapping, ok := pattern.(object); ok {
		return matchObject(mapping, actual, saved, path)
	}
	if isMissing(pattern) {
		if !isMissing(actual) {
			return mismatch(path, pattern, actual)
		}
		return nil
	}
	if list, ok := pattern.([]any); ok {
		entries, ok := actual.([]any)
		if !ok || len(entries) != len(list) {
			return mismatch(path, pattern, actual)
		}
		for i, entry := range entries {
			if err := match(list[i], entry, saved, fmt.Sprintf("%s[%d]", path, i)); err != nil {
				return err
			}
		}
		return nil
	}
	if !isScalar(actual) || text(actual) != text(pattern) {
		return mismatch(path, pattern, actual)
	}
	return nil
}

func matchObject(pattern object, actual any, saved object, path string) error {
	fields, isObject := actual.(object)
	hasMatchers, hasFields := false, false
	for key, argument := range pattern {
		if !strings.HasPrefix(key, "$") {
			hasFields = true
			continue
		}
		hasMatchers = true
		if err := matchers(key, argument, actual, saved, path); err != nil {
			return err
		}
	}
	if !isObject && (hasFields || !hasMatchers) {
		return mismatch(path, pattern, actual)
	}
	for key, expected := range pattern {
		if strings.HasPrefix(key, "$") {
			continue
		}
		if err := match(expected, fields[key], saved, path+"."+key); err != nil {
			return err
		}
	}
	return nil
}

// matchers applies one matcher.
func matchers(name string, argument, actual any, saved object, path string) error {
	list, isList := actual.([]any)
	isList = isList || isMissing(actual)
	matches := false
	switch name {
	case "$present":
		matches = !isMissing(actual)
	case "$absent":
		matches = isMissing(actual)
	case "$save":
		if matches = !isMissing(actual); matches {
			saved[argument.(string)] = actual
		}
	case "$is":
		return match(argument, actual, saved, path)
	case "$equals":
		matches = equal(argument, actual)
	case "$not":
		matches = !isMissing(actual) && match(argument, actual, saved, path) != nil
	case "$matches":
		actual, isText := actual.(string)
		matches = isText && regexp.MustCompile(`\A(?:`+argument.(string)+`)\z`).MatchString(actual)
	case "$gt", "$ge", "$le":
		limit, number := integer(argument), integer(actual)
		matches = limit != nil && number != nil && map[string]bool{
			"$gt": *number > *limit, "$ge": *number >= *limit, "$le": *number <= *limit,
		}[name]
	case "$length":
		matches = isList && text(len(list)) == text(argument)
	case "$contains":
		for _, entry := range list {
			matches = matches || match(argument, entry, saved, path) == nil
		}
	case "$each":
		matches = isList
		for i, entry := range list {
			if err := match(argument, entry, saved, fmt.Sprintf("%s[%d]", path, i)); err != nil {
				return err
			}
		}
	case "$growing":
		matches = isList && isGrowing(list)
	default:
		return fmt.Errorf("at %s: there is no matcher %s", path, name)
	}
	if !matches {
		return mismatch(path, object{name: argument}, actual)
	}
	return nil
}

// integer is the whole number that a value is; nil if it is not one.
func integer(value any) *int64 {
	var number int64
	if isMissing(value) {
		return &number
	}
	number, err := strconv.ParseInt(text(value), 10, 64)
	if !isScalar(value) || err != nil {
		return nil
	}
	return &number
}

func isGrowing(list []any) bool {
	var before *int64
	for _, entry := range list {
		number := integer(entry)
		if number == nil || (before != nil && *number <= *before) {
			return false
		}
		before = number
	}
	return true
}

func equal(one, other any) bool {
	if isMissing(one) || isMissing(other) {
		return isMissing(one) && isMissing(other)
	}
	switch one := one.(type) {
	case object:
		other, ok := other.(object)
		for key := range other {
			ok = ok && equal(one[key], other[key])
		}
		for key := range one {
			ok = ok && equal(one[key], other[key])
		}
		return ok
	case []any:
		other, ok := other.([]any)
		ok = ok && len(one) == len(other)
		for i := range one {
			ok = ok && equal(one[i], other[i])
		}
		return ok
	}
	return isScalar(other) && text(one) == text(other)
}

func TestAPatternMatchesWhatItShouldAndRefusesTheRest(t *testing.T) {
	var cases []struct {
		Pattern          any
		Matches, Refuses []any
	}
	load(t, filepath.Join(scenarios, "matching", "cases.yaml"), &cases)
	nothing := func(value any) any {
		if value == "$nothing" {
			return nil
		}
		return value
	}
	for _, c := range cases {
		for _, value := range c.Matches {
			if err := match(c.Pattern, nothing(value), object{}, ""); err != nil {
				t.Error(err)
			}
		}
		for _, value := range c.Refuses {
			if match(c.Pattern, nothing(value), object{}, "") == nil {
				t.Errorf("%v must not match %v", c.Pattern, value)
			}
		}
	}
	if len(cases) < 30 {
		t.Errorf("only %d cases", len(cases))
	}
}

func load(t *testing.T, path string, into any) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err == nil {
		err = yaml.Unmarshal(content, into)
	}
	if err != nil {
		t.Fatal(path, err)
	}
}
