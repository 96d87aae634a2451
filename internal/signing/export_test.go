package signing

// Thumbprints gives tests the relation between kid and x5t.
var Thumbprints = formatThumbprints
