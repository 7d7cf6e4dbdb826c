package turnwire

import (
	"crypto/tls"
	"errors"
	"strings"
)

func isUntrusted(err error) bool {
	var invalid *tls.CertificateVerificationError
	return errors.As(err, &invalid)
}

func isNotTLS(err error) bool {
	var record tls.RecordHeaderError
	// net/http replaces the error of TLS by this text, and has no value for it.
	return errors.As(err, &record) || strings.Contains(err.Error(), "server gave HTTP response to HTTPS client")
}

// rootCause returns the innermost error as text.
func rootCause(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return strings.TrimSuffix(err.Error(), ".")
		}
		err = inner
	}
}
