module turnwire/examples/go-proxy

go 1.22
