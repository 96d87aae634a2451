package compare

import (
	"slices"
	"testing"
)

func TestGaps(t *testing.T) {
	t.Parallel()
	well := Sight{Approved: true, Indexed: true, Known: 7, Reported: true, Top: 7, Hears: true}
	with := func(f func(*Sight)) Sight {
		s := well
		f(&s)
		return s
	}
	for name, row := range map[string]struct {
		s    Sight
		want []Kind
	}{
		"InStep":                   {well, nil},
		"NeverReported":            {Sight{Approved: true, Indexed: true, Hears: true}, nil},
		"NothingAtAll":             {Sight{Reported: true, Top: 7}, nil},
		"ApprovalWithoutEntry":     {with(func(s *Sight) { s.Indexed = false }), []Kind{Index}},
		"EntryWithoutApproval":     {Sight{Indexed: true, Reported: true, Top: 7}, []Kind{Index}},
		"Behind":                   {with(func(s *Sight) { s.Known = 6 }), []Kind{Behind}},
		"BehindAndNotIndexed":      {with(func(s *Sight) { s.Known, s.Indexed = 6, false }), []Kind{Index, Behind}},
		"BehindFanOutOwed":         {with(func(s *Sight) { s.Known, s.Owed, s.Listed = 6, true, true }), nil},
		"BehindOwedNotListed":      {with(func(s *Sight) { s.Known, s.Owed = 6, true }), []Kind{Listing}},
		"MarkNotListed":            {with(func(s *Sight) { s.Owed = true }), []Kind{Listing}},
		"MarkNotListedNoApproval":  {Sight{Reported: true, Top: 7, Owed: true}, []Kind{Listing}},
		"BehindNeverHadURL":        {with(func(s *Sight) { s.Known, s.Hears = 6, false }), nil},
		"Ahead":                    {with(func(s *Sight) { s.Known = 8 }), []Kind{Ahead}},
		"AheadFanOutOwed":          {with(func(s *Sight) { s.Known, s.Owed, s.Listed = 8, true, true }), []Kind{Ahead}},
		"AheadNeverHadURL":         {with(func(s *Sight) { s.Known, s.Hears = 8, false }), []Kind{Ahead}},
		"AheadOfNoRecord":          {with(func(s *Sight) { s.Reported, s.Top = false, 0 }), nil},
		"AheadToBeRetold":          {with(func(s *Sight) { s.Known, s.Again = 8, true }), []Kind{Ahead}},
		"Retell":                   {with(func(s *Sight) { s.Again = true }), []Kind{Retell}},
		"RetellBehind":             {with(func(s *Sight) { s.Again, s.Known = true, 6 }), []Kind{Retell}},
		"RetellFanOutOwed":         {with(func(s *Sight) { s.Again, s.Owed, s.Listed = true, true, true }), nil},
		"RetellNeverHadURL":        {with(func(s *Sight) { s.Again, s.Hears = true, false }), nil},
		"RetellFirstURLJustNow":    {with(func(s *Sight) { s.Again, s.Fresh = true, true }), nil},
		"RetellBehindURLJustNow":   {with(func(s *Sight) { s.Again, s.Fresh, s.Known = true, true, 6 }), nil},
		"UnreadableIsNotJudged":    {with(func(s *Sight) { s.Unreadable, s.Indexed = true, false }), nil},
		"RetellOfOneNeverReported": {Sight{Approved: true, Indexed: true, Hears: true, Again: true}, []Kind{Retell}},
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
	behind := Sight{Approved: true, Indexed: true, Known: 6, Reported: true, Top: 7, Hears: true}
	moved, healed, newer := behind, behind, behind
	moved.Known, moved.Top = 7, 8
	healed.Known = 7
	newer.Top = 9
	unlisted := Sight{Reported: true, Top: 7, Owed: true}
	later := unlisted
	later.Top = 8
	entry := Sight{Indexed: true}
	approval := Sight{Approved: true, Reported: true, Top: 7, Known: 7}
	for name, row := range map[string]struct {
		sights []Sight
		want   []Kind
	}{
		"Same":             {[]Sight{behind, behind, behind}, []Kind{Behind}},
		"HealedAtLast":     {[]Sight{behind, behind, healed}, nil},
		"HealedInBetween":  {[]Sight{behind, healed, behind}, nil},
		"MovedOn":          {[]Sight{behind, moved, moved}, nil},
		"RecordGrew":       {[]Sight{behind, newer, newer}, []Kind{Behind}},
		"ListedAnew":       {[]Sight{unlisted, later}, nil},
		"NotListed":        {[]Sight{unlisted, unlisted}, []Kind{Listing}},
		"EntryThenTheOpp.": {[]Sight{entry, approval}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := Persisting(row.sights[0], row.sights[1:]...); !slices.Equal(got, row.want) {
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
		part, app, at := place(cursor)
		if got := [3]string{part, string(app), at}; got != want {
			t.Errorf("%q: %q, want %q", cursor, got, want)
		}
	}
	if got := passed("apps|app1|77"); got != "apps|app1\x00|" {
		t.Errorf("passed %q", got)
	}
	if got := passed("index|5"); got != atEnd {
		t.Errorf("passed %q", got)
	}
}
