module github.com/lamplighter/lamplighter/tools/model

go 1.26
