module meshca.test/verifiers/go

go 1.22
