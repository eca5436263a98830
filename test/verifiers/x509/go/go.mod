module meshca.test/verifiers/x509/go

go 1.22
