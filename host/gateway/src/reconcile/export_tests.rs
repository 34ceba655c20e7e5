//! Files in the forms that providers export, whole and broken.

use super::*;
use proptest::prelude::*;

const OPENAI_USAGE: &str = "\
start_time,end_time,start_time_iso,end_time_iso,project_id,num_model_requests,user_id,api_key_id,model,batch,service_tier,input_tokens,output_tokens,input_cached_tokens,input_uncached_tokens
1795737600,1795824000,2026-11-27T00:00:00+00:00,2026-11-28T00:00:00+00:00,,,,,,,,,,,
1795824000,1795910400,2026-11-28T00:00:00+00:00,2026-11-29T00:00:00+00:00,proj_a,3,,,gpt-4o-mini-2024-07-18,False,default,1200,300,1000,200
1795824000,1795910400,2026-11-28T00:00:00+00:00,2026-11-29T00:00:00+00:00,proj_b,2,,,gpt-4o-mini-2024-07-18,True,default,800,100,0,800
";

const OPENAI_COSTS: &str = "\
start_time,end_time,start_time_iso,end_time_iso,amount_value,amount_currency,line_item,project_id,organization_id
1795824000,1795910400,2026-11-28T00:00:00+00:00,2026-11-29T00:00:00+00:00,0.003835980000000000000000000000,usd,\"gpt-4o-mini-2024-07-18, input\",,org-a
1795824000,1795910400,2026-11-28T00:00:00+00:00,2026-11-29T00:00:00+00:00,0.5,usd,\"gpt-4o-mini-2024-07-18, output\",,org-a
1795910400,1795996800,2026-11-29T00:00:00+00:00,2026-11-30T00:00:00+00:00,,,,,
";

const ANTHROPIC_USAGE: &str = "\
usage_date_utc,model_version,api_key,workspace,usage_type,context_window,usage_input_tokens_no_cache,usage_input_tokens_cache_write_5m,usage_input_tokens_cache_write_1h,usage_input_tokens_cache_read,usage_output_tokens,web_search_count
2026-11-28,claude-haiku-4-5-20251001,one,Default,standard,≤ 200k,100,20,5,1000,50,0
2026-11-28 13:00,claude-haiku-4-5-20251001,two,Default,standard,≤ 200k,10,0,0,0,5,0
";

const ANTHROPIC_COSTS: &str = "\
usage_date_utc,model,workspace,api_key,usage_type,context_window,token_type,cost_usd,list_price_usd
2026-11-28,Claude Haiku 4.5,Default,one,message,≤ 200k,input_no_cache,0.05,0.05
2026-11-28,Claude Haiku 4.5,Default,one,message,≤ 200k,output,0.02,0.02
2026-11-28,,Default,one,web_search,,,0.01,0.01
";

fn used(model: &str, usage: (u64, u64, u64, u64), requests: Option<u64>) -> Billed {
    let (input, cached, written, output) = usage;
    let (input, cached, written) = (Tokens(input), Tokens(cached), Tokens(written));
    Billed {
        day: Date::new(2026, 11, 28).unwrap(),
        model: Some(model.to_owned()),
        usage: Some(Usage { input, cached, written, output: Tokens(output) }),
        cost: None,
        requests,
    }
}

fn paid(model: Option<&str>, nanos: i64) -> Billed {
    Billed {
        day: Date::new(2026, 11, 28).unwrap(),
        model: model.map(str::to_owned),
        usage: None,
        cost: Some(chela_types::Money::from_nanos(nanos)),
        requests: None,
    }
}

#[test]
fn each_form_is_read_and_summed_by_day_and_model() {
    let by_day = OPENAI_COSTS
        .replace("\"gpt-4o-mini-2024-07-18, input\"", "")
        .replace("\"gpt-4o-mini-2024-07-18, output\"", "");
    for (text, form, billed) in [
        (
            OPENAI_USAGE,
            Form::OpenAiUsage,
            vec![used("gpt-4o-mini-2024-07-18", (2_000, 1_000, 0, 400), Some(5))],
        ),
        (OPENAI_COSTS, Form::OpenAiCosts, vec![paid(Some("gpt-4o-mini-2024-07-18"), 503_835_980)]),
        (&by_day, Form::OpenAiCosts, vec![paid(None, 503_835_980)]),
        (
            ANTHROPIC_USAGE,
            Form::AnthropicUsage,
            vec![used("claude-haiku-4-5-20251001", (1_135, 1_000, 25, 55), None)],
        ),
        (
            ANTHROPIC_COSTS,
            Form::AnthropicCosts,
            vec![paid(Some("claude-haiku-4-5"), 70_000_000), paid(Some("no model"), 10_000_000)],
        ),
    ] {
        let expected = Ok(Export { form, billed });
        assert_eq!(Export::read(text.as_bytes()), expected, "{text}");
        let as_windows = format!("\u{feff}{}", text.replace('\n', "\r\n"));
        assert_eq!(Export::read(as_windows.as_bytes()), expected, "{text}");
        let lines: Vec<String> = text.lines().map(|line| line.replace(',', " , ")).collect();
        if !text.contains('"') {
            assert_eq!(Export::read(lines.join("\n\n").as_bytes()), expected, "{text}");
        }
    }
}

#[test]
fn a_file_of_no_known_form_is_told_what_it_lacks() {
    for (text, missing) in [
        (
            "start_time,model,input_tokens,output_tokens\n1,m,1,1\n",
            &["input_cached_tokens", "num_model_requests"][..],
        ),
        ("usage_date_utc,model,cost_usd\n", &["token_type"]),
        ("\u{0}\n", &["start_time", "line_item", "amount_value", "amount_currency"]),
    ] {
        let Err(ExportError::Unknown { missing: told, .. }) = Export::read(text.as_bytes()) else {
            panic!("{text}");
        };
        assert_eq!(told, missing, "{text}");
    }
    let header = OPENAI_USAGE.lines().next().unwrap();
    let nothing = OPENAI_USAGE.lines().take(2).collect::<Vec<_>>().join("\n");
    for empty in ["", "\u{feff}", "\n\n", header, &nothing] {
        assert_eq!(Export::read(empty.as_bytes()), Err(ExportError::Empty), "{empty}");
    }
}

#[test]
fn a_row_that_cannot_be_read_is_named() {
    let header = "usage_date_utc,model,token_type,cost_usd\n2026-11-28,m,input,1\n";
    for (row, what) in [
        ("2026-11-28,m,input,-1", "`cost_usd`"),
        ("2026-11-28,m,input,99999999999999999999999999999999999999999", "`cost_usd`"),
        ("2026-11-28,m,input,NaN", "`cost_usd`"),
        ("2026-11-28,m,input,\"1\u{0}\"", "`cost_usd`"),
        ("2026-11-31,m,input,1", "`usage_date_utc`"),
        ("2026-11-28x,m,input,1", "`usage_date_utc`"),
        ("20,m,input,1", "`usage_date_utc`"),
        ("2026-11-28,\"m\nn\",input,1", "`model`"),
        ("2026-11-28,m,input", "columns"),
        ("2026-11-28,m,input,1,2", "columns"),
    ] {
        let error = Export::read(format!("{header}{row}\n").as_bytes()).unwrap_err();
        assert!(
            matches!(&error, ExportError::Row { row: 3, what: told } if told.contains(what)),
            "{row}: {error}"
        );
    }
    let header = "start_time,model,input_tokens,input_cached_tokens,output_tokens,num_model_requests\n";
    for (row, what) in [
        ("1795824000,m,-1,0,0,1", "`input_tokens`"),
        ("1795824000,m,+1,0,0,1", "`input_tokens`"),
        ("1795824000,m,1.0,0,0,1", "`input_tokens`"),
        ("1795824000,m,18446744073709551616,0,0,1", "`input_tokens`"),
        ("1795824000,m,1,2,0,1", "more cached tokens than input"),
        ("1795824000,,1,0,0,1", "tokens of no model"),
        ("9223372036854775807,m,1,0,0,1", "`start_time`"),
        ("-9223372036854775808,m,1,0,0,1", "`start_time`"),
        (",m,1,0,0,1", "`start_time`"),
    ] {
        let error = Export::read(format!("{header}{row}\n").as_bytes()).unwrap_err();
        assert!(
            matches!(&error, ExportError::Row { row: 2, what: told } if told.contains(what)),
            "{row}: {error}"
        );
    }
    let euros = OPENAI_COSTS.replace("0.5,usd", "0.5,eur");
    assert!(Export::read(euros.as_bytes()).unwrap_err().to_string().contains("not usd"));
    let latin = [OPENAI_COSTS.as_bytes(), b"1795910400,,,,1,usd,\xe9,,\n"].concat();
    assert!(Export::read(&latin).unwrap_err().to_string().contains("UTF-8"));
}

#[test]
fn sums_and_files_have_an_end() {
    let row = "2026-11-28,m,input,9000000000";
    let text = format!("usage_date_utc,model,token_type,cost_usd\n{row}\n{row}\n");
    assert_eq!(Export::read(text.as_bytes()), Err(ExportError::TooMuch));
    assert_eq!(Export::read(&vec![b'a'; EXPORT_BYTES_MAX + 1]), Err(ExportError::TooLarge));
    let header = "usage_date_utc,model,token_type,cost_usd\n";
    let rows = |count| [header.to_owned(), "2026-11-28,m,input,1\n".repeat(count)].concat();
    assert!(Export::read(rows(ROWS_MAX).as_bytes()).is_ok());
    assert_eq!(Export::read(rows(ROWS_MAX + 1).as_bytes()), Err(ExportError::TooLong));
}

proptest! {
    #[test]
    fn no_bytes_are_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Export::read(&bytes);
    }

    #[test]
    fn no_fields_are_too_strange(
        form in 0..4usize,
        fields in proptest::collection::vec("[-+0-9eE.,\"\\PC\\n]{0,30}", 0..14),
    ) {
        let header = [OPENAI_USAGE, OPENAI_COSTS, ANTHROPIC_USAGE, ANTHROPIC_COSTS][form].lines().next().unwrap();
        let _ = Export::read(format!("{header}\n{}\n", fields.join(",")).as_bytes());
    }
}
