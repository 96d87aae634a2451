module github.com/lamplighter/lamplighter/tools/readability

go 1.26
