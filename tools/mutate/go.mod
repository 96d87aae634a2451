module github.com/lamplighter/lamplighter/tools/mutate

go 1.26
