use base64::{Engine as _, prelude::BASE64_STANDARD};
use rcgen::{CertificateParams, KeyPair, PublicKeyData as _, SigningKey as _};

use super::*;

const MESSAGE: &[u8] = b"pod-uid";

fn bytes(text: &str) -> Vec<u8> {
    BASE64_STANDARD.decode(text).unwrap()
}

#[test]
fn who_signs_with_a_key_holds_it() {
    for algorithm in [&rcgen::PKCS_ED25519, &rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let other = KeyPair::generate_for(algorithm).unwrap();
        let (public, request) = (key.subject_public_key_info(), CertificateParams::new(Vec::new()).unwrap());
        let request = request.serialize_request(&key).unwrap().der().to_vec();
        assert_eq!(proves_its_key(&request), Ok(()), "{algorithm:?}");
        let mut forged = request.clone();
        *forged.last_mut().unwrap() ^= 1;
        assert!(proves_its_key(&forged).is_err(), "{algorithm:?}");
        // The proof is over SHA-256, whatever the curve.
        if algorithm == &rcgen::PKCS_ECDSA_P384_SHA384 {
            continue;
        }
        let proof = key.sign(MESSAGE).unwrap();
        assert_eq!(proves_possession(&public, MESSAGE, &proof), Ok(()), "{algorithm:?}");
        let others = proves_possession(&other.subject_public_key_info(), MESSAGE, &proof);
        assert_eq!(others, Err(NotHeld::Signature), "{algorithm:?}");
        assert_eq!(proves_possession(&public, b"another", &proof), Err(NotHeld::Signature), "{algorithm:?}");
        assert_eq!(proves_possession(&public, MESSAGE, &[]), Err(NotHeld::Signature), "{algorithm:?}");
    }
    assert_eq!(proves_possession(&bytes(P384), MESSAGE, &bytes(P384_PROOF)), Ok(()));
}

#[test]
fn rsa_signs_with_a_salt_of_any_length() {
    let key = bytes(RSA_3072);
    for proof in [LONGEST_SALT, SHORT_SALT] {
        let mut proof = bytes(proof);
        assert_eq!(proves_possession(&key, MESSAGE, &proof), Ok(()));
        assert_eq!(proves_possession(&key, b"another", &proof), Err(NotHeld::Signature));
        for at in [0, proof.len() / 2, proof.len() - 1] {
            proof[at] ^= 1;
            assert_eq!(proves_possession(&key, MESSAGE, &proof), Err(NotHeld::Signature), "{at}");
            proof[at] ^= 1;
        }
        proof.insert(0, 0);
        assert_eq!(proves_possession(&key, MESSAGE, &proof), Err(NotHeld::Signature), "longer than the key");
    }
    for wrong in [bytes(OTHER_PADDING), Vec::new(), vec![0; 384], vec![0xff; 384]] {
        assert_eq!(proves_possession(&key, MESSAGE, &wrong), Err(NotHeld::Signature));
    }
    assert_eq!(proves_its_key(&bytes(RSA_REQUEST)), Ok(()));
}

#[test]
fn what_no_key_is_accepted_for_is_told() {
    let wrong = |key: &[u8]| proves_possession(key, MESSAGE, &[]).unwrap_err();
    assert_eq!(wrong(b""), NotHeld::NoKey);
    assert_eq!(wrong(b"\x30\x03\x02\x01\x01"), NotHeld::NoKey);
    assert_eq!(wrong(&bytes(RSA_2048)), NotHeld::Modulus { bits: 2048 });
    // A curve that is known and too small.
    let mut p224 = bytes(P384);
    p224[19] = 33;
    assert_eq!(wrong(&p224), NotHeld::Curve { name: "P-224" });
    let mut x25519 = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().subject_public_key_info();
    x25519[8] = 110;
    assert_eq!(wrong(&x25519), NotHeld::UnknownKey);
    assert_eq!(proves_its_key(b"no request"), Err(NotHeld::NoRequest));
    let mut longer = bytes(RSA_REQUEST);
    longer.push(0);
    assert_eq!(proves_its_key(&longer), Err(NotHeld::NoRequest));
}

#[test]
fn no_encoding_makes_it_panic() {
    for length in 0..70 {
        for fill in [0, 1, 0xbc, 0xff] {
            for unused in 0..8 {
                assert!(!decodes(&vec![fill; length], unused, MESSAGE), "{length} {fill} {unused}");
            }
        }
    }
}

// Keys and what openssl made with them, of kinds that tests cannot make.

const RSA_3072: &str = "\
    MIIBojANBgkqhkiG9w0BAQEFAAOCAY8AMIIBigKCAYEA3akzRavkNHmq0MsjhClxDzxLFjg8Z+Ch1+TBRgEQ3EKQz8rCKf7dc7Aj\
    XXfOcXjM/glcPWdtcgvKeX5wXuYXl0l5xFCsr3Z+rVx8XFZZoWdyeDA7TDV+xtECqJZ3X5rzcF6Sn5mdD06uA0xGM7yLYdGScTU8\
    j8GrsGzWEzy16kSNVKJ95uImczlDNTgK48WufpJZ72V8LSygpN1ejYt2gpb8HI624pxwFUrwfcrDLQg2pVbicCkq2F/6+7cmDKfy\
    qxWi9zdwKRdIs83aF5noBbyCv/ieNY+EMWmYjwCNxd8GNHO70AtQgCQxFVpKnO78z5E6OJioQUDosUQCIfdgiXYWUSAGhrri/V5B\
    BvfBnsqiyvqEnPVAZrx8gt44ek/i7W6r4FxmTGyC6H6I3cqFZcvPdEQlbSl81anfC+1v8wo+YBa88deeRoF85wa2OLkDaaLt7QGn\
    ypUc83oaV5g/ns76EgEasyC8KHQ9Yh9va6NmmmFd2UDz+InBZJpSPq1tAgMBAAE=";
const RSA_2048: &str = "\
    MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAzs3ymg4x3ioRgZUpQYL8JNjq9PEpd++TZnKskHBwEZ8PVVNsrhs/c8XJ\
    ztMzeKBVYpjXzpOXV9bo1fMmyerUazSrr8dgP20wx0YglNW1G0TcjKkN0Zs23kBM7FfjGV/7pKBMg2Zj3li938rOL23nmtpvEdvk\
    yXsIJ0glm1hCTlpw5Y6KbZwIpEO7k+uxtbYgA/xCwXuXFxpJ6jSEPN5SrOaSkUs9Q4msxVp+oMQGoHZC5pMnivBJ4JUWAT+aA2i4\
    ORoIzsoVYRDScHmZjDxHzlsFEtZUDdMcPoaG08kKxfKYV7JPXScKGKFV6Z9rONXsixM8bC3mhiHWbItwujpYgwIDAQAB";
const LONGEST_SALT: &str = "\
    s+MO75qNMsQhDY8WxAaMZfJSor9nIjfPrKfXgmtytucboIiaacRMFVACAdBOPybOdRJ1rq2b8DvkOUSvX4hHJi7Pi5141w5nL9xo\
    ojrDAXw9rERISXafbSFUY0ZyFkh0Z+wtqSXsu/2aJZOeFG0KI/rkQVC2fa4KWOekVPf/qLfA+e+TE65CTBikFvUQiKgypqdzo7DF\
    /EPZ/pRy89exdYhNJ31qi1GuMQVvZq7q4gmSde6q6Tktye9YEWpbA4P0Im1OpKsaJNKpoz5PQPAYrouD+xsbtVV04Fju26B1cSiY\
    lKYi5Z8HZym2oNd7ZDrgkW2XxO3G9DoajUtmnzjuJQZjFwxBpUXQ9KXRl/4/CIX38n9KW1x0Vuz1FetLO5eiuBM/r/Wyin+Hi6Mh\
    l2kkn3ZowReHwahCVXXR0wZAtGspXJZZme9x+2opAykD9RvkAQJtI82S81UTAMQZ2Ci2P3L3+n/y1uFSMTr+zp5+tCiwyefQA+Cs\
    9oJVYw2HIWJL";
const SHORT_SALT: &str = "\
    YXHHB19QSWAicRSgCR5f6V0ZL4Jz659TzfqeSe2wOt6cQEd/4L7/JGrAEfoy2xoxuKCa51uDujK+J3WkEwPm8NTtLnvA+valLRtr\
    gJaepDKxzYgkDP/i/tAor+PnbnX579U6qw6YqZFv0UntglmL3RWjkrIc5WCmI6M6aLCuF8U0NyJV6HJVSiCbZOxkzjtbQvVmpCDM\
    WWaU2m76Ja0o+PLzXbu428izFdagE54W3nJKP6mRQX5OPsidg9nIpdz42KnW+UmZ2FNZpiIWmm2ARMj/wO/gfhxH2zo50/dxxIYj\
    XF6Wf4lX7lyxwOgztS0f8s7WMzBq7Odb7V2SZVCiHIl/3NZLN/b7fmq1CCT38RKLliVAUNwGobmFQbmX7oV6A3L1p9GLqmj5RfG1\
    e0kzMmDTEQHcT2qQ3L4ZXGpXzxLWRuKvGhauqftOM9DE4+Xc+SVC9kYh/Rg1TxxF7FgHnroaMD/hmQE71vcpb+sDeWlH2GbEGkwR\
    HpW8WU7L9sho";
const OTHER_PADDING: &str = "\
    LlrQ0P3bI6jcX8yPqYc3THj8V3WcjvD5hfuPbP5snJw1sc/lMLJLkO4OVsF0JGdrfxprGSysGrCaLKQESc0UZAxye6bjc3Gu4LJW\
    +WRUbe6tI7Pf8nYmZXtuqWgjO57PL6WgkKWuiA/XrsfNM8mw8rBFU0SCQi1FXkCQ8wk96ND2ca534xme5lbb5vx4quRMjEgBiqRu\
    8YCtJfpYHMQ98umHjczUqaWt87kgoMQJtQkKsEbpKb592CCFu3q/D/YVQn6JR0dj5bpvkNFSEKPzKJy0p5EtyG3aiJdh7MCRdqxJ\
    ymhGdI5ACXyFRLyiKwHTzksqR48tOY8/dK+2M6tAoN4pF21ydwgAiIhFye9hxIUBM4MWhlUJLVt2o3DPIkFe6W9sB+rksBHbxbgz\
    CsM/p6uePmS2uwJxnPT6EATjvNgot6ZyucZHTxaeMcMdQaRTlUKgithK1jkAy7w5ZpnqFt/4uH6Zs0t5c9MTokwTbOoNBP5PGQ1M\
    iiOTUmcBvMaq";
const RSA_REQUEST: &str = "\
    MIIDRTCCAa0CAQAwADCCAaIwDQYJKoZIhvcNAQEBBQADggGPADCCAYoCggGBAN2pM0Wr5DR5qtDLI4QpcQ88SxY4PGfgodfkwUYB\
    ENxCkM/Kwin+3XOwI113znF4zP4JXD1nbXILynl+cF7mF5dJecRQrK92fq1cfFxWWaFncngwO0w1fsbRAqiWd1+a83Bekp+ZnQ9O\
    rgNMRjO8i2HRknE1PI/Bq7Bs1hM8tepEjVSifebiJnM5QzU4CuPFrn6SWe9lfC0soKTdXo2LdoKW/ByOtuKccBVK8H3Kwy0INqVW\
    4nApKthf+vu3Jgyn8qsVovc3cCkXSLPN2heZ6AW8gr/4njWPhDFpmI8AjcXfBjRzu9ALUIAkMRVaSpzu/M+ROjiYqEFA6LFEAiH3\
    YIl2FlEgBoa64v1eQQb3wZ7Kosr6hJz1QGa8fILeOHpP4u1uq+BcZkxsguh+iN3KhWXLz3REJW0pfNWp3wvtb/MKPmAWvPHXnkaB\
    fOcGtji5A2mi7e0Bp8qVHPN6GleYP57O+hIBGrMgvCh0PWIfb2ujZpphXdlA8/iJwWSaUj6tbQIDAQABoAAwDQYJKoZIhvcNAQEL\
    BQADggGBAFgKu4z5kiK2z3Wo15/p05GjBC/1TVH8Zd4TPt2s1Yz2tWhUFSz2w0XzBhFWuuyhc0mLoBHXwlBLFw5LMNNno44lMWoU\
    oQphq0tO+oJPTBJdXO3sN0SfCpj9i0cKrNcW4INssQTm2Jh7LKakXonb7X7Y3fd3gUTPgzEuX1Sq9iljQQrgwTw7Tsqqyqba00l4\
    OtngvzXgA+C8Y7n0jFDQZOhG3OB1Goh+2u2zIwsmq0vSg/fjSOtYDwnphSka8byh07HgEpIPe68NzsBj62x3OjVQ21rQJ7z6ZO9z\
    kitwGLB7XXYE4OCn8Il7tCzdGGbOET5L5db2kYcJoCdnKLZxWpLmf3bRnY4E/SeVbMqmms8ZqlL5GM9ALPcv+fmrMxK3aBl0HuxT\
    A4zQ0QDJbgfaDudT9lx2RkPLKy5/l5bqDwDZrK+/WnjtyHu9sH8sf94s6FL2f8lGUu9yayxutYlc48kaodt58N9nzmUDJAVqEy4o\
    8oj3TXf9luxU+9RLqcTkxA==";
const P384: &str = "\
    MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEjuMZ+bYmmCGuBhzIDrE0QR6swryNNvz3l4JLPYuPHbe69ooqzMBXBuLlhikW1khacM4D\
    1l291YsXbob/s4pO2y9YpaXLTVtwA4UM8rkXlpC1nsb8zwQCWE/kyzo3kjHe";
const P384_PROOF: &str = "\
    MGUCMDhqnRHqtbfDeIXTRHlwXtn37p/eeulAfNo3M0iRikRR7kLD6/RMg4rkguD9U8+rpAIxAIBn4+KhT7NQvOSDvsIYwVUP2hG0\
    2vPYixoxez0nqMUacmKVafPDw1WnxNGJp4HcCg==";
