module meshca.test/interop/report

go 1.25.3
