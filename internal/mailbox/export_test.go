package mailbox

// RetellSource is the text of the script retell, which has another one inside.
func RetellSource() string { return buildRetellSource() }
