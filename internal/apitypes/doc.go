// Package apitypes has the shapes of the API that more than one package uses, and reads the tags of all shapes.
//
// A shape is a struct type. Its fields are the members of a JSON object, in the order in which answers have them. The tag json
// names a member, as for encoding/json: a member with omitempty or omitzero may be absent from answers. The tag doc describes it in
// the API's document. The tag api has words, separated by commas:
//
//	write                 callers may set it; without this word, writes accept it and ignore it
//	by=operator, by=admin who alone may change a member of an app: operators and admins, or admins. Lists are compared as sets
//	required              a write must have it, and it must not be empty
//	refused               a write must not have it
//	unordered             the order of the list has no meaning
//	min=N, max=N          the bounds of a number
//	maxLength=N           the characters of a text, at most; minLength=N at least
//	minItems=N, maxItems=N  the items of a list
//	ref=NAME              the schema of the document that describes it, instead of the one of its Go type
//	closed                on a field _: other members are refused
//
// The tag always of an embedded type lists members of it that answers never leave out here, whatever their own tag says.
//
// The reader of apps and endpoints holds writes to these bounds, and refuses control characters in texts.
//
// From this the API's document, the reader of apps and endpoints, the base of merge patches, the schema of applied files and the
// names of command line flags are derived.
package apitypes
