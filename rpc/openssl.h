// OpenSSL's values with owners that free them, and how they are read from PEM.
//
// Free functions, thread-safe.
#pragma once

#include <openssl/bio.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <memory>
#include <string>

namespace muster::rpc {

template <auto Free>
struct Freer {
  template <class T>
  void operator()(T* value) const {
    Free(value);
  }
};
using Bio = std::unique_ptr<BIO, Freer<BIO_free_all>>;
using Certificate = std::unique_ptr<X509, Freer<X509_free>>;
using Key = std::unique_ptr<EVP_PKEY, Freer<EVP_PKEY_free>>;

// Reads `text`, which it borrows.
inline Bio ReaderOf(const std::string& text) {
  return Bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

// Null when the text is none.
inline Certificate CertificateFromPem(const std::string& text) {
  return Certificate(PEM_read_bio_X509(ReaderOf(text).get(), nullptr, nullptr, nullptr));
}
inline Key KeyFromPem(const std::string& text) {
  return Key(PEM_read_bio_PrivateKey(ReaderOf(text).get(), nullptr, nullptr, nullptr));
}

}  // namespace muster::rpc
