package compare

import (
	"slices"
	"testing"
)

func TestGaps(t *testing.T) {
	t.Parallel()
	well := PairSnapshot{Approved: true, Indexed: true, Known: 7, Reported: true, Top: 7, HasURL: true}
	with := func(f func(*PairSnapshot)) PairSnapshot {
		s := well
		f(&s)
		return s
	}
	for name, row := range map[string]struct {
		s    PairSnapshot
		want []Kind
	}{
		"InStep":                   {well, nil},
		"NeverReported":            {PairSnapshot{Approved: true, Indexed: true, HasURL: true}, nil},
		"NothingAtAll":             {PairSnapshot{Reported: true, Top: 7}, nil},
		"ApprovalWithoutEntry":     {with(func(s *PairSnapshot) { s.Indexed = false }), []Kind{Index}},
		"EntryWithoutApproval":     {PairSnapshot{Indexed: true, Reported: true, Top: 7}, []Kind{Index}},
		"Behind":                   {with(func(s *PairSnapshot) { s.Known = 6 }), []Kind{Behind}},
		"BehindAndNotIndexed":      {with(func(s *PairSnapshot) { s.Known, s.Indexed = 6, false }), []Kind{Index, Behind}},
		"BehindFanOutOwed":         {with(func(s *PairSnapshot) { s.Known, s.FanoutPending, s.Listed = 6, true, true }), nil},
		"BehindOwedNotListed":      {with(func(s *PairSnapshot) { s.Known, s.FanoutPending = 6, true }), []Kind{Listing}},
		"MarkNotListed":            {with(func(s *PairSnapshot) { s.FanoutPending = true }), []Kind{Listing}},
		"MarkNotListedNoApproval":  {PairSnapshot{Reported: true, Top: 7, FanoutPending: true}, []Kind{Listing}},
		"BehindNeverHadURL":        {with(func(s *PairSnapshot) { s.Known, s.HasURL = 6, false }), nil},
		"Ahead":                    {with(func(s *PairSnapshot) { s.Known = 8 }), []Kind{Ahead}},
		"AheadFanOutOwed":          {with(func(s *PairSnapshot) { s.Known, s.FanoutPending, s.Listed = 8, true, true }), []Kind{Ahead}},
		"AheadNeverHadURL":         {with(func(s *PairSnapshot) { s.Known, s.HasURL = 8, false }), []Kind{Ahead}},
		"AheadOfNoRecord":          {with(func(s *PairSnapshot) { s.Reported, s.Top = false, 0 }), nil},
		"AheadToBeRetold":          {with(func(s *PairSnapshot) { s.Known, s.Again = 8, true }), []Kind{Ahead}},
		"Retell":                   {with(func(s *PairSnapshot) { s.Again = true }), []Kind{Retell}},
		"RetellBehind":             {with(func(s *PairSnapshot) { s.Again, s.Known = true, 6 }), []Kind{Retell}},
		"RetellFanOutOwed":         {with(func(s *PairSnapshot) { s.Again, s.FanoutPending, s.Listed = true, true, true }), nil},
		"RetellNeverHadURL":        {with(func(s *PairSnapshot) { s.Again, s.HasURL = true, false }), nil},
		"RetellFirstURLJustNow":    {with(func(s *PairSnapshot) { s.Again, s.Fresh = true, true }), nil},
		"RetellBehindURLJustNow":   {with(func(s *PairSnapshot) { s.Again, s.Fresh, s.Known = true, true, 6 }), nil},
		"UnreadableIsNotJudged":    {with(func(s *PairSnapshot) { s.Unreadable, s.Indexed = true, false }), nil},
		"RetellOfALostRecord":      {PairSnapshot{Approved: true, Indexed: true, HasURL: true, Again: true, Known: 7}, nil},
		"RetellOfOneNeverReported": {PairSnapshot{Approved: true, Indexed: true, HasURL: true, Again: true}, []Kind{Retell}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := row.s.Gaps(); !slices.Equal(got, row.want) {
				t.Errorf("gaps %v, want %v", got, row.want)
			}
		})
	}
}

func TestOnlyWhatStandsStillPersists(t *testing.T) {
	t.Parallel()
	behind := PairSnapshot{Approved: true, Indexed: true, Known: 6, Reported: true, Top: 7, HasURL: true}
	moved, healed, newer := behind, behind, behind
	moved.Known, moved.Top = 7, 8
	healed.Known = 7
	newer.Top = 9
	unlisted := PairSnapshot{Reported: true, Top: 7, FanoutPending: true}
	later := unlisted
	later.Top = 8
	entry := PairSnapshot{Indexed: true}
	approval := PairSnapshot{Approved: true, Reported: true, Top: 7, Known: 7}
	for name, row := range map[string]struct {
		sights []PairSnapshot
		want   []Kind
	}{
		"Same":             {[]PairSnapshot{behind, behind, behind}, []Kind{Behind}},
		"HealedAtLast":     {[]PairSnapshot{behind, behind, healed}, nil},
		"HealedInBetween":  {[]PairSnapshot{behind, healed, behind}, nil},
		"MovedOn":          {[]PairSnapshot{behind, moved, moved}, nil},
		"RecordGrew":       {[]PairSnapshot{behind, newer, newer}, []Kind{Behind}},
		"ListedAnew":       {[]PairSnapshot{unlisted, later}, nil},
		"NotListed":        {[]PairSnapshot{unlisted, unlisted}, []Kind{Listing}},
		"EntryThenTheOpp.": {[]PairSnapshot{entry, approval}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := FindPersisting(row.sights[0], row.sights[1:]...); !slices.Equal(got, row.want) {
				t.Errorf("gaps %v, want %v", got, row.want)
			}
		})
	}
}

func TestPlaces(t *testing.T) {
	t.Parallel()
	for cursor, want := range map[string][3]string{
		"":                {inApps, "", ""},
		atStart:           {inApps, "", ""},
		"apps|app1|77":    {inApps, "app1", "77"},
		"index|":          {inIndex, "", ""},
		"index|h:1|99":    {inIndex, "", "h:1|99"},
		"of a later sort": {inApps, "", ""},
	} {
		part, app, at := parseCursor(cursor)
		if got := [3]string{part, string(app), at}; got != want {
			t.Errorf("%q: %q, want %q", cursor, got, want)
		}
	}
	if got := skipPlace("apps|app1|77"); got != "apps|app1\x00|" {
		t.Errorf("passed %q", got)
	}
	if got := skipPlace("index|5"); got != atEnd {
		t.Errorf("passed %q", got)
	}
}
