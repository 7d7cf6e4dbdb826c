module turnwire/examples/go-proxy

go 1.23

require turnwire/clients/go v0.1.0

require github.com/coder/websocket v1.8.14 // indirect

replace turnwire/clients/go => ../../clients/go
