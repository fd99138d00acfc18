//! HPACK: the examples of RFC 7541 appendix C, the bounds, and what a hostile block can try.

use mesh_http2::hpack::{CompressionError, DEFAULT_TABLE_SIZE, Decoder, HpackError, encode};

type Fields = Vec<(String, String)>;

const NO_LIMIT: usize = usize::MAX;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    assert_eq!(digits.len() % 2, 0, "{text}");
    digits
        .chunks(2)
        .map(|pair| (pair[0] * 16 + pair[1]) as u8)
        .collect()
}

fn fields(expected: &[(&str, &str)]) -> Fields {
    let owned = |(name, value): &(&str, &str)| ((*name).into(), (*value).into());
    expected.iter().map(owned).collect()
}

fn decode(decoder: &mut Decoder, block: &[u8], limit: usize) -> Result<Fields, HpackError> {
    let mut list = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    decoder.decode(block, limit, |name, value| {
        list.push((text(name), text(value)));
    })?;
    Ok(list)
}

/// The dynamic table, read through references to its entries.
fn table(decoder: &mut Decoder) -> Fields {
    let mut entries = Vec::new();
    for index in 62..127 {
        match decode(decoder, &[0x80 | index], NO_LIMIT) {
            Ok(entry) => entries.extend(entry),
            Err(error) => {
                assert_eq!(error, CompressionError::Index(index.into()).into());
                break;
            }
        }
    }
    entries
}

/// A step of an example: the block, its fields, and the dynamic table after it.
type Step<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [(&'a str, &'a str)]);

fn run(max_table_size: u32, steps: &[Step<'_>]) {
    let mut decoder = Decoder::new(max_table_size);
    for (block, list, entries) in steps {
        let decoded = decode(&mut decoder, &hex(block), NO_LIMIT);
        assert_eq!(decoded, Ok(fields(list)), "{block}");
        assert_eq!(table(&mut decoder), fields(entries), "{block}");
    }
}

#[test]
fn rfc_7541_c_2_representations() {
    let custom = [("custom-key", "custom-header")];
    let examples: [Step<'_>; 4] = [
        (
            "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
            &custom,
            &custom,
        ),
        (
            "040c 2f73 616d 706c 652f 7061 7468",
            &[(":path", "/sample/path")],
            &[],
        ),
        (
            "1008 7061 7373 776f 7264 0673 6563 7265 74",
            &[("password", "secret")],
            &[],
        ),
        ("82", &[(":method", "GET")], &[]),
    ];
    for example in examples {
        run(DEFAULT_TABLE_SIZE, &[example]);
    }
}

/// C.3 and C.4: three requests, whose lists and tables are the same.
fn requests(blocks: [&str; 3]) {
    let get = (":method", "GET");
    let authority = (":authority", "www.example.com");
    let no_cache = ("cache-control", "no-cache");
    let custom = ("custom-key", "custom-value");
    let http = (":scheme", "http");
    let root = (":path", "/");
    run(
        DEFAULT_TABLE_SIZE,
        &[
            (blocks[0], &[get, http, root, authority], &[authority]),
            (
                blocks[1],
                &[get, http, root, authority, no_cache],
                &[no_cache, authority],
            ),
            (
                blocks[2],
                &[
                    get,
                    (":scheme", "https"),
                    (":path", "/index.html"),
                    authority,
                    custom,
                ],
                &[custom, no_cache, authority],
            ),
        ],
    );
}

#[test]
fn rfc_7541_c_3_requests() {
    requests([
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ]);
}

#[test]
fn rfc_7541_c_4_requests_in_huffman_code() {
    requests([
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ]);
}

/// C.5 and C.6: three responses and a table of 256 bytes, which evicts.
fn responses(blocks: [&str; 3]) {
    let found = (":status", "302");
    let redirect = (":status", "307");
    let private = ("cache-control", "private");
    let date = ("date", "Mon, 21 Oct 2013 20:13:21 GMT");
    let later = ("date", "Mon, 21 Oct 2013 20:13:22 GMT");
    let location = ("location", "https://www.example.com");
    let gzip = ("content-encoding", "gzip");
    let cookie = (
        "set-cookie",
        "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
    );
    run(
        256,
        &[
            (
                blocks[0],
                &[found, private, date, location],
                &[location, date, private, found],
            ),
            (
                blocks[1],
                &[redirect, private, date, location],
                &[redirect, location, date, private],
            ),
            (
                blocks[2],
                &[(":status", "200"), private, later, location, gzip, cookie],
                &[cookie, gzip, later],
            ),
        ],
    );
}

const C_5: [&str; 3] = [
    "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a
     3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
    "4803 3330 37c1 c0bf",
    "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04
     677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49
     553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
];

const C_6: [&str; 3] = [
    "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e
     919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
    "4883 640e ffc1 c0bf",
    "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7
     821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed
     4ee5 b106 3d50 07",
];

#[test]
fn rfc_7541_c_5_responses_with_eviction() {
    responses(C_5);
}

#[test]
fn rfc_7541_c_6_responses_with_eviction_in_huffman_code() {
    responses(C_6);
}

#[test]
fn a_block_cut_anywhere_is_broken_or_ends_at_a_field() {
    for block in [C_5[0], C_6[0]] {
        let block = hex(block);
        let whole = decode(&mut Decoder::new(256), &block, NO_LIMIT).unwrap();
        let mut ends_of_fields = 0;
        for end in 0..block.len() {
            match decode(&mut Decoder::new(256), &block[..end], NO_LIMIT) {
                Ok(list) => {
                    assert_eq!(list, whole[..list.len()]);
                    ends_of_fields += 1;
                }
                Err(error) => assert_eq!(error, CompressionError::Truncated.into()),
            }
        }
        assert_eq!(ends_of_fields, whole.len());
    }
}

#[test]
fn an_index_that_no_table_has_is_refused() {
    for (block, index) in [
        ("80", 0),
        ("be", 62),
        ("ff00", 127),
        // As the name of a literal: added to the table, and not.
        ("7e 0161", 62),
        ("0f2f 0161", 62),
        ("1f2f 0161", 62),
        ("ff80 ffff ff0f", u32::MAX),
    ] {
        let result = decode(&mut Decoder::new(4096), &hex(block), NO_LIMIT);
        assert_eq!(
            result,
            Err(CompressionError::Index(index).into()),
            "{block}"
        );
    }
}

#[test]
fn lengths_beyond_the_block_and_beyond_32_bits_are_refused() {
    for (block, error) in [
        ("00 0561", CompressionError::Truncated),
        ("00 7fff ffff ff07 61", CompressionError::Truncated),
        ("00 7fff ffff ff7f 61", CompressionError::IntegerOverflow),
        ("3f", CompressionError::Truncated),
        ("3fff ffff ffff 7f", CompressionError::IntegerOverflow),
        // EOS, and padding with a zero.
        ("00 84ffff ffff 0161", CompressionError::Huffman),
        ("00 811e 0161", CompressionError::Huffman),
    ] {
        let result = decode(&mut Decoder::new(4096), &hex(block), NO_LIMIT);
        assert_eq!(result, Err(error.into()), "{block}");
    }
}

#[test]
fn a_size_update_evicts_and_is_bounded_by_the_setting() {
    let mut decoder = Decoder::new(256);
    decode(&mut decoder, &hex(C_5[0]), NO_LIMIT).unwrap();
    assert_eq!(table(&mut decoder).len(), 4);
    // To 130 bytes: the two newest have 63 and 65.
    decode(&mut decoder, &hex("3f63"), NO_LIMIT).unwrap();
    assert_eq!(table(&mut decoder).len(), 2);
    // To 0 and to 256 again: empty.
    decode(&mut decoder, &hex("20 3fe101"), NO_LIMIT).unwrap();
    assert_eq!(table(&mut decoder), []);
    let above = decode(&mut decoder, &hex("3fe201"), NO_LIMIT);
    assert_eq!(above, Err(CompressionError::TableSize(257).into()));
}

#[test]
fn a_size_update_comes_before_the_fields() {
    let result = decode(&mut Decoder::new(4096), &hex("82 20"), NO_LIMIT);
    assert_eq!(result, Err(CompressionError::LateSizeUpdate.into()));
}

#[test]
fn a_reduced_setting_must_be_followed() {
    let mut decoder = Decoder::new(4096);
    decoder.set_max_table_size(100);
    let silent = decode(&mut decoder, &hex("82"), NO_LIMIT);
    assert_eq!(silent, Err(CompressionError::MissingSizeUpdate.into()));
    let above = decode(&mut decoder, &hex("3f46 82"), NO_LIMIT);
    assert_eq!(above, Err(CompressionError::TableSize(101).into()));
    assert!(decode(&mut decoder, &hex("3f45 82"), NO_LIMIT).is_ok());
    assert!(decode(&mut decoder, &hex("82"), NO_LIMIT).is_ok());
}

#[test]
fn a_raised_setting_is_the_peers_to_use() {
    let mut decoder = Decoder::new(0);
    decoder.set_max_table_size(256);
    // Not before the peer says so.
    decode(&mut decoder, &hex("40 0161 0162"), NO_LIMIT).unwrap();
    assert_eq!(table(&mut decoder), []);
    decode(&mut decoder, &hex("3fe101 40 0161 0162"), NO_LIMIT).unwrap();
    assert_eq!(table(&mut decoder), fields(&[("a", "b")]));
}

#[test]
fn an_entry_larger_than_the_table_empties_it() {
    let mut decoder = Decoder::new(34);
    decode(&mut decoder, &hex("40 0161 0162"), NO_LIMIT).unwrap();
    assert_eq!(table(&mut decoder).len(), 1);
    let list = decode(&mut decoder, &hex("40 0161 026263"), NO_LIMIT);
    assert_eq!(list, Ok(fields(&[("a", "bc")])));
    assert_eq!(table(&mut decoder), []);
}

#[test]
fn a_name_may_come_from_the_entry_that_its_field_evicts() {
    let mut decoder = Decoder::new(34);
    decode(&mut decoder, &hex("40 0161 0162"), NO_LIMIT).unwrap();
    let list = decode(&mut decoder, &hex("7e 0163"), NO_LIMIT);
    assert_eq!(list, Ok(fields(&[("a", "c")])));
    assert_eq!(table(&mut decoder), fields(&[("a", "c")]));
}

#[test]
fn the_limit_counts_32_bytes_a_field() {
    // :method: GET has 10 bytes, :status: 200 too.
    let block = hex("82 88");
    assert!(decode(&mut Decoder::new(0), &block, 84).is_ok());
    let above = decode(&mut Decoder::new(0), &block, 83);
    assert_eq!(above, Err(HpackError::TooLarge { limit: 83 }));
}

#[test]
fn a_list_above_the_limit_leaves_the_tables_in_step() {
    let mut decoder = Decoder::new(256);
    let mut given = Vec::new();
    let result = decoder.decode(&hex(C_6[0]), 100, |name, _| given.push(name.to_vec()));
    assert_eq!(result, Err(HpackError::TooLarge { limit: 100 }));
    // :status counts 42 and cache-control 52; date and all after it are not given.
    assert_eq!(given, [&b":status"[..], b"cache-control"]);
    let next = decode(&mut decoder, &hex(C_6[1]), NO_LIMIT).unwrap();
    assert_eq!(next[3].1, "https://www.example.com");
    // What is broken is broken, even above the limit.
    let broken = decode(&mut decoder, &hex("8888 be 80"), 42);
    assert_eq!(broken, Err(CompressionError::Index(0).into()));
}

#[test]
fn a_block_that_repeats_one_large_entry_is_given_up_64_kib_beyond_the_limit() {
    // Each reference counts 4,031: 20 of them are 64 KiB more than the limit.
    let limit = 20 * 4031 - (64 << 10);
    let run = |references: usize| {
        let mut block = hex("40 0161 7f9f1e");
        block.extend([b'x'; 3998]);
        block.extend(vec![0xbe; references - 1]);
        let mut given = 0;
        let result = Decoder::new(4096).decode(&block, limit, |name, value| {
            given += name.len() + value.len();
        });
        (given, result)
    };
    let given = 3 * 3999;
    assert_eq!(run(20), (given, Err(HpackError::TooLarge { limit })));
    assert_eq!(run(21), (given, Err(HpackError::Excessive { limit })));
    assert_eq!(run(16_000), (given, Err(HpackError::Excessive { limit })));
}

#[test]
fn the_encoder_refers_to_the_static_table_and_keeps_no_other() {
    let mut out = Vec::new();
    let list: [(&[u8], &[u8]); 5] = [
        (b":method", b"GET"),
        (b":path", b"/sample/path"),
        (b":status", b"200"),
        (b":authority", b"a:1"),
        (b"baggage", b"k=v"),
    ];
    encode(&mut out, list.into_iter());
    let expected = "20 82 040c 2f73 616d 706c 652f 7061 7468 88 0103 613a31
        0007 6261 6767 6167 65 03 6b3d76";
    assert_eq!(out, hex(expected));
}

#[test]
fn what_the_encoder_writes_the_decoder_reads() {
    let long = "v".repeat(70_000);
    let connect = [
        (":method", "CONNECT"),
        (":authority", "10.0.0.1:8080"),
        ("baggage", "k8s.cluster.name=c1,service.name=shop"),
        ("forwarded", ""),
        ("", "no name"),
        ("x-long", long.as_str()),
        ("www-authenticate", "last of the static table"),
    ];
    let mut out = Vec::new();
    let bytes = connect.map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    encode(&mut out, bytes.into_iter());
    // A peer that allows no table, and one that has just forbidden it.
    let mut forbidden = Decoder::new(4096);
    forbidden.set_max_table_size(0);
    for mut decoder in [Decoder::new(0), Decoder::new(4096), forbidden] {
        for _ in 0..2 {
            assert_eq!(decode(&mut decoder, &out, NO_LIMIT), Ok(fields(&connect)));
        }
        assert_eq!(table(&mut decoder), []);
    }
}
