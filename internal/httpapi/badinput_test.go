package httpapi_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// secretWord stands in every bad input; no answer may repeat it.
const secretWord = "hunter2"

func TestBadInputIsRefused(t *testing.T) {
	t.Parallel()
	const changes, app, endpoint = "/v1/state-changes", "/v1/apps/app1", "/v1/apps/app1/endpoints/erp_sync"
	deep := strings.Repeat(`{"a":`, 40) + "1" + strings.Repeat("}", 40)
	for _, test := range []struct {
		name, method, path, body string
		status                   int
		pointers                 []string
	}{
		{"UnknownChangeType", "POST", changes, `{"tenant":"Cust1","change_type":"hunter2"}`, 422, []string{"/change_type"}},
		{"NumberChangeType", "POST", changes, `{"tenant":"Cust1","change_type":0}`, 422, []string{"/change_type"}},
		{"MissingMembers", "POST", changes, `{}`, 422, []string{"/tenant", "/change_type"}},
		{"EmptyMembers", "POST", changes, `{"tenant":"","change_type":""}`, 422, []string{"/tenant", "/change_type"}},
		{"NullMembers", "POST", changes, `{"tenant":null,"change_type":"suspend"}`, 422, []string{"/tenant"}},
		{"TenantWithBrace", "POST", changes, `{"tenant":"{hunter2}","change_type":"suspend"}`, 422, []string{"/tenant"}},
		{"TenantTooLong", "POST", changes, `{"tenant":"` + strings.Repeat("hunter2", 10) + `","change_type":"suspend"}`, 422, []string{"/tenant"}},
		{"MoveWithoutEndpoint", "POST", changes, `{"tenant":"Cust1","change_type":"move"}`, 422, []string{"/public_endpoint"}},
		{"MoveWithEmptyEndpoint", "POST", changes, `{"tenant":"Cust1","change_type":"move","public_endpoint":""}`, 422, []string{"/public_endpoint"}},
		{"MoveToURL", "POST", changes, `{"tenant":"Cust1","change_type":"move","public_endpoint":"https://hunter2/"}`, 422, []string{"/public_endpoint"}},
		{"SuspendWithEndpoint", "POST", changes, `{"tenant":"Cust1","change_type":"suspend","public_endpoint":"a.example"}`, 422, []string{"/public_endpoint"}},
		{"BadTime", "POST", changes, `{"tenant":"Cust1","change_type":"suspend","occurred_at":"hunter2"}`, 422, []string{"/occurred_at"}},
		{"SourceSequenceZero", "POST", changes, `{"tenant":"Cust1","change_type":"suspend","source_sequence":0}`, 422, []string{"/source_sequence"}},
		{"SourceSequenceMinusZero", "POST", changes, `{"tenant":"Cust1","change_type":"suspend","source_sequence":-0}`, 422, []string{"/source_sequence"}},
		{"SourceSequenceNegative", "POST", changes, `{"tenant":"Cust1","change_type":"suspend","source_sequence":-1}`, 422, []string{"/source_sequence"}},
		{"SourceSequenceFraction", "POST", changes, `{"tenant":"Cust1","change_type":"suspend","source_sequence":1.5}`, 422, []string{"/source_sequence"}},
		{"SourceSequenceWholeFraction", "POST", changes, `{"tenant":"Cust1","change_type":"suspend","source_sequence":1.0}`, 422, []string{"/source_sequence"}},
		{"SourceSequenceExponent", "POST", changes, `{"tenant":"Cust1","change_type":"suspend","source_sequence":1e3}`, 422, []string{"/source_sequence"}},
		{"SourceSequenceText", "POST", changes, `{"tenant":"Cust1","change_type":"suspend","source_sequence":"1"}`, 422, []string{"/source_sequence"}},
		{"SourceSequenceEmptyText", "POST", changes, `{"tenant":"Cust1","change_type":"suspend","source_sequence":""}`, 422, []string{"/source_sequence"}},
		{"SourceSequenceWord", "POST", changes, `{"tenant":"Cust1","change_type":"suspend","source_sequence":"hunter2"}`, 422, []string{"/source_sequence"}},
		{"SourceSequenceNull", "POST", changes, `{"tenant":"Cust1","change_type":"suspend","source_sequence":null}`, 422, []string{"/source_sequence"}},
		{"SourceSequenceFlag", "POST", changes, `{"tenant":"Cust1","change_type":"suspend","source_sequence":true}`, 422, []string{"/source_sequence"}},
		{"SourceSequenceArray", "POST", changes, `{"tenant":"Cust1","change_type":"suspend","source_sequence":[1]}`, 422, []string{"/source_sequence"}},
		{"SourceSequenceObject", "POST", changes, `{"tenant":"Cust1","change_type":"suspend","source_sequence":{"hunter2":1}}`, 422, []string{"/source_sequence"}},
		{"SourceSequenceTooHigh", "POST", changes, `{"tenant":"Cust1","change_type":"suspend","source_sequence":9007199254740992}`, 422, []string{"/source_sequence"}},
		{"SourceSequenceInt64", "POST", changes, `{"tenant":"Cust1","change_type":"suspend","source_sequence":9223372036854775807}`, 422, []string{"/source_sequence"}},
		{"SourceSequenceBeyond", "POST", changes, `{"tenant":"Cust1","change_type":"suspend","source_sequence":18446744073709551617}`, 422, []string{"/source_sequence"}},
		{"SourceSequenceHuge", "POST", changes, `{"tenant":"Cust1","change_type":"suspend","source_sequence":1e400}`, 422, []string{"/source_sequence"}},
		{"SourceSequenceLeadingZero", "POST", changes, `{"tenant":"Cust1","change_type":"suspend","source_sequence":01}`, 400, nil},
		{"SourceSequencePlus", "POST", changes, `{"tenant":"Cust1","change_type":"suspend","source_sequence":+1}`, 400, nil},
		{"SourceSequenceHex", "POST", changes, `{"tenant":"Cust1","change_type":"suspend","source_sequence":0x10}`, 400, nil},
		{"SourceSequenceNaN", "POST", changes, `{"tenant":"Cust1","change_type":"suspend","source_sequence":NaN}`, 400, nil},
		{"SourceSequenceTwice", "POST", changes, `{"tenant":"Cust1","change_type":"suspend","source_sequence":1,"source_sequence":2}`, 400, []string{"/source_sequence"}},
		{"ControlInVersion", "POST", changes, `{"tenant":"Cust1","change_type":"suspend","version_name":"hunter2\u0000"}`, 422, []string{"/version_name"}},
		{"LongVersion", "POST", changes, `{"tenant":"Cust1","change_type":"suspend","file_version":"` + strings.Repeat("é", 201) + `"}`, 422, []string{"/file_version"}},
		{"UnknownMembers", "POST", changes, `{"tenant":"Cust1","change_type":"suspend","b/~":"hunter2","Tenant":"hunter2"}`, 422, []string{"/Tenant", "/b~1~0"}},
		{"LongMemberName", "POST", changes, `{"tenant":"Cust1","change_type":"suspend","` + strings.Repeat(secretWord, 20) + `":1}`, 422, []string{""}},
		{"Array", "POST", changes, `[{"tenant":"Cust1"}]`, 422, []string{"", "/tenant", "/change_type"}},
		{"Malformed", "POST", changes, `{"tenant":"hunter2",}`, 400, nil},
		{"Empty", "POST", changes, " ", 400, nil},
		{"Truncated", "POST", changes, `{"tenant":"hunter2"`, 400, nil},
		{"TrailingData", "POST", changes, `{"tenant":"Cust1","change_type":"suspend"} hunter2`, 400, nil},
		{"TwoDocuments", "POST", changes, `{"tenant":"Cust1","change_type":"suspend"}{"tenant":"Cust2","change_type":"suspend"}`, 400, nil},
		{"Duplicate", "POST", changes, `{"tenant":"Cust1","tenant":"hunter2","change_type":"suspend"}`, 400, []string{"/tenant"}},
		{"DuplicateEscaped", "POST", changes, `{"tenant":"Cust1","\u0074enant":"hunter2","change_type":"suspend"}`, 400, []string{"/tenant"}},
		{"NaN", "POST", changes, `{"tenant":NaN}`, 400, nil},
		{"NotUTF8", "POST", changes, "{\"tenant\":\"Cust1\xff\",\"change_type\":\"suspend\"}", 400, nil},
		{"LoneSurrogate", "POST", changes, `{"tenant":"Cust1","change_type":"suspend","version_name":"\ud83d"}`, 400, nil},
		{"Deep", "POST", changes, deep, 400, nil},
		{"VeryDeep", "POST", changes, strings.Repeat("[", 100_000), 400, nil},
		{"Huge", "POST", changes, `{"tenant":"` + strings.Repeat("a", 1<<20) + `"}`, 413, nil},
		{"ClientIDWithBrace", "PUT", "/v1/apps/app%7Bhunter2%7D", appBody, 422, []string{"/client_id"}},
		{"ClientIDWithSlash", "GET", "/v1/apps/app%2Fhunter2", "", 422, []string{"/client_id"}},
		{"ClientIDWithNull", "GET", "/v1/apps/app%00hunter2", "", 422, []string{"/client_id"}},
		{"UnknownApp", "GET", "/v1/apps/hunter2", "", 404, nil},
		{"UnknownEndpoint", "GET", "/v1/apps/app1/endpoints/hunter2", "", 422, []string{"/endpoint"}},
		{"AppWithoutName", "PUT", app, `{"name":""}`, 422, []string{"/name"}},
		{"AppOfOtherID", "PUT", app, `{"client_id":"hunter2","name":"A"}`, 422, []string{"/client_id"}},
		{"AppSecret", "PUT", app, `{"name":"A","webhook_secret":"hunter2"}`, 422, []string{"/webhook_secret"}},
		{"AppUnknownNested", "PUT", app, `{"name":"A","endpoints":{"state_change":{"hunter":1},"other":{}},"technical_contact":{"phone":"hunter2"}}`, 422, []string{"/technical_contact/phone", "/endpoints/state_change/hunter", "/endpoints/other"}},
		{"AppWrongTypes", "PUT", app, `{"name":"A","error_emails":"hunter2","public_keys":[1],"endpoints":{"erp_sync":{"enabled":"yes","urls":[]}}}`, 422, []string{"/error_emails", "/public_keys/0", "/endpoints/erp_sync/urls", "/endpoints/erp_sync/enabled"}},
		{"AppManyEmails", "PUT", app, `{"name":"A","error_emails":["1","2","3","4","5","6","7","8","9","10","11"]}`, 422, []string{"/error_emails"}},
		{"AppBadValues", "PUT", app, `{"name":"A","token_algorithm":"hunter2","error_emails":["hunter2"]}`, 422, []string{"/error_emails/0", "/token_algorithm"}},
		{"URLWithCredentials", "PUT", endpoint, `{"url":"https://kim:hunter2@partner.example/"}`, 422, []string{"/url"}},
		{"URLWithFragment", "PUT", endpoint, `{"url":"https://partner.example/#hunter2"}`, 422, []string{"/url"}},
		{"URLNotHTTPS", "PUT", endpoint, `{"url":"http://hunter2.example/"}`, 422, []string{"/url"}},
		{"URLBlocked", "PATCH", endpoint, `{"urls":{"sod":"https://10.0.0.1/hunter2"}}`, 422, []string{"/urls/sod"}},
		{"URLOfUnknownEnvironment", "PATCH", endpoint, `{"urls":{"prod":"https://hunter2.example/"}}`, 422, []string{"/urls/prod"}},
		{"PatchUnknownNull", "PATCH", app, `{"hunter":null}`, 422, []string{"/hunter"}},
		{"PatchNotObject", "PATCH", app, `["hunter2"]`, 422, []string{""}},
		{"StateUnknown", "PUT", "/v1/tenants/Cust1/status", `{"state":"Unknown"}`, 422, []string{"/state"}},
		{"StateNoWord", "PUT", "/v1/tenants/Cust1/status", `{"state":"hunter2"}`, 422, []string{"/state"}},
		{"LimitTooHigh", "GET", "/v1/apps?limit=501", "", 422, []string{"/limit"}},
		{"LimitNoNumber", "GET", "/v1/apps?limit=hunter2", "", 422, []string{"/limit"}},
		{"UnknownParameter", "GET", "/v1/apps?hunter=hunter2", "", 422, []string{"/hunter"}},
		{"ForgedCursorOfApprovals", "GET", "/v1/apps/app1/approvals?cursor=YXBwcm92YWxzL2FwcDEKIQ", "", 400, []string{"/cursor"}},
		{"ForgedCursor", "GET", "/v1/apps?cursor=hunter2!", "", 400, []string{"/cursor"}},
		{"NoRoute", "GET", "/v1/hunter2", "", 404, nil},
		{"AbsentRoute", "POST", endpoint + "/reports", `{}`, 404, nil},
		{"PathTrick", "GET", "/v1/apps/../apps/app1", "", 404, nil},
		{"DoubleSlash", "GET", "/v1//apps/app1", "", 404, nil},
		{"WrongMethod", "POST", app, `{}`, 405, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t).withApp(t)
			rec := h.do(request{method: test.method, path: test.path, role: "admin", body: test.body})
			var p map[string]any
			if err := json.Unmarshal(rec.Body.Bytes(), &p); err != nil || rec.Code != test.status {
				t.Fatalf("= %d, want %d: %s", rec.Code, test.status, rec.Body)
			}
			if got := rec.Header().Get("Content-Type"); got != "application/problem+json" || p["status"] != float64(test.status) || p["title"] == "" || p["type"] == "" {
				t.Errorf("not a whole problem document (%s): %s", got, rec.Body)
			}
			if got := pointers(p); !slices.Equal(got, test.pointers) {
				t.Errorf("pointers %q, want %q: %s", got, test.pointers, rec.Body)
			}
			if strings.Contains(rec.Body.String(), secretWord) {
				t.Errorf("the answer repeats the input: %s", rec.Body)
			}
			if len(h.accepted) != 0 || h.revision != 1 || len(h.statuses) != 0 {
				t.Error("something was written")
			}
		})
	}
}

func TestBadHeaders(t *testing.T) {
	t.Parallel()
	change := `{"tenant":"Cust1","change_type":"suspend"}`
	for _, test := range []struct {
		name, contentType string
		header            map[string]string
		want              int
	}{
		{"Charset", "application/json; charset=UTF-8", nil, 202},
		{"OtherCharset", "application/json; charset=latin1", nil, 415},
		{"Form", "application/x-www-form-urlencoded", nil, 415},
		{"NoType", "hunter2", nil, 415},
		{"Compressed", "application/json", map[string]string{"Content-Encoding": "gzip"}, 415},
		{"EmptyKey", "application/json", map[string]string{"Idempotency-Key": ""}, 400},
		{"KeyWithSpace", "application/json", map[string]string{"Idempotency-Key": "a b"}, 400},
		{"LongKey", "application/json", map[string]string{"Idempotency-Key": strings.Repeat("k", 256)}, 400},
		{"LongestKey", "application/json", map[string]string{"Idempotency-Key": strings.Repeat("k", 255)}, 202},
	} {
		h := newHarness(t)
		rec := h.do(request{method: "POST", path: "/v1/state-changes", role: "platform", body: change, contentType: test.contentType, header: test.header})
		if rec.Code != test.want {
			t.Errorf("%s = %d, want %d: %s", test.name, rec.Code, test.want, rec.Body)
		}
	}
	h := newHarness(t).withApp(t)
	rec := h.do(request{method: "POST", path: "/v1/apps/app1", role: "admin"})
	if got := rec.Header().Get("Allow"); got != "DELETE, GET, HEAD, PATCH, PUT" {
		t.Errorf("Allow = %q", got)
	}
	for given, kept := range map[string]bool{"abc-1.2_3": true, "a b": false, strings.Repeat("x", 65): false, "a\"b": false} {
		rec := h.do(request{method: "GET", path: "/v1/apps", role: "admin", header: map[string]string{"X-Request-Id": given}})
		if got := rec.Header().Get("X-Request-Id"); (got == given) != kept || got == "" {
			t.Errorf("X-Request-Id %q became %q", given, got)
		}
	}
	if rec := h.do(request{method: http.MethodGet, path: "/v1/apps", role: "admin"}); rec.Code != 200 {
		t.Errorf("list = %d", rec.Code)
	}
}

// TestFaultInTheLastByte: what stands behind a document is not called a document cut short.
func TestFaultInTheLastByte(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	for body, want := range map[string]string{
		`{}x`: "see byte 3", `{"tenant":"a"`: "ends in the middle", `{"tenant":"a`: "ends in the middle",
		"\xef\xbb\xbf{}": "byte order mark", "\xff\xfe{\x00}\x00": "byte order mark", "\xfe\xff\x00{\x00}": "byte order mark",
	} {
		got := h.want(t, 400, request{method: "POST", path: "/v1/state-changes", role: "platform", body: body})
		if detail, _ := got["detail"].(string); !strings.Contains(detail, want) {
			t.Errorf("%s: %q, want %q", body, detail, want)
		}
	}
}

// TestTimesOfRFC3339: every spelling that section 5.6 allows is read, and nothing else.
func TestTimesOfRFC3339(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	post := func(at string, status int) {
		h.want(t, status, request{
			method: "POST", path: "/v1/state-changes", role: "platform", body: `{"tenant":"Cust1","change_type":"suspend","occurred_at":"` + at + `"}`,
		})
	}
	for at, want := range map[string]string{
		"2026-11-24T10:15:00Z": "2026-11-24T10:15:00Z", "2026-11-24t10:15:00.25z": "2026-11-24T10:15:00.25Z",
		"2016-12-31T23:59:60Z": "2017-01-01T00:00:00Z", "2016-12-31t15:59:60.5-08:00": "2017-01-01T00:00:00.5Z",
	} {
		post(at, 202)
		if got := h.accepted[len(h.accepted)-1].OccurredAt; got.Format(time.RFC3339Nano) != want {
			t.Errorf("%s is %v, want %s", at, got, want)
		}
	}
	for _, at := range []string{
		"2016-12-31T22:59:60Z", "2016-12-31T23:59:61Z", "2016-12-31T23:60:60Z", "2016-12-31T23:59:60", "23:59:60Z", "2016-12-31 23:59:59Z", "",
		"2016-12-31T23:59:60+01:00", "2016-12-31T23:59:ſ0Z", "ßßßßßßßßßßßßßßßßß60Z",
	} {
		post(at, 422)
	}
}
