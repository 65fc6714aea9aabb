use serde_json::json;

use crate::eval::tests::all_give;
use crate::{Ask, Authorizer, Bindings, Budget, Decision, Environment, Program, RUNTIME_BUDGET, Type, Value};

struct Fixed;

impl Authorizer for Fixed {
    fn decide(&self, account: Option<(&str, &str)>, ask: &Ask<'_>) -> Decision {
        let allowed = match ask {
            Ask::Path { path, verb } => *path == "/healthz" && *verb == "get",
            Ask::Resource { resource, namespace, verb, .. } => {
                *resource == "pods"
                    && *namespace == "a"
                    && *verb == "create"
                    && account == Some(("ns", "robot"))
            }
        };
        Decision { allowed, reason: "because".to_owned(), error: None }
    }
}

fn run(source: &str) -> String {
    let environment = Environment::new()
        .with("object", Type::Dyn)
        .with("authorizer", Type::Opaque("kubernetes.authorization.Authorizer"));
    let object = json!({"list": [3, 1, 2], "text": "x"});
    let program = match Program::compile(source, &environment) {
        Ok(program) => program,
        Err(errors) => return errors.to_string(),
    };
    let bindings = Bindings::new()
        .with("object", Value::from_json(&object, &Type::Dyn))
        .with("authorizer", Value::authorizer(&Fixed));
    match program.evaluate(&bindings, &mut Budget::new(RUNTIME_BUDGET)) {
        Ok(value) => format!("{value:?}"),
        Err(error) => format!("error: {error}"),
    }
}

fn table(cases: &[(&str, &str)]) {
    all_give(run, cases);
}

#[test]
fn texts() {
    table(&[
        ("'tacocat'.indexOf('c', 3)", "4"),
        ("'tacocat'.lastIndexOf('at', 4)", "-1"),
        ("'tacocat'.lastIndexOf('at')", "5"),
        ("'tacocat'.substring(2, 4) + 'äöü'.substring(1)", "\"coöü\""),
        ("'abc'.substring(3, 2)", "error: invalid substring range. start: 3, end: 2"),
        ("'abc'.charAt(3) + 'abc'.charAt(1)", "\"b\""),
        ("'abc'.charAt(4)", "error: index out of range: 4"),
        ("'a,b,c'.split(',', 2)", "[\"a\", \"b,c\"]"),
        ("'abc'.split('')", "[\"a\", \"b\", \"c\"]"),
        ("'hello hello'.replace('he', 'we', 1)", "\"wello hello\""),
        ("['a', 'b'].join('-') + ['c'].join()", "\"a-bc\""),
        ("' A b '.trim().lowerAscii().upperAscii()", "\"A B\""),
        ("'abc 123'.find('[0-9]+') + 'abc'.find('x')", "\"123\""),
        ("'1 22 3'.findAll('[0-9]+', 2)", "[\"1\", \"22\"]"),
        ("'abc'.matches('^a.c$') && 'abc'.contains('b') && 'abc'.endsWith('bc')", "true"),
        (
            "object.text.matches('(')",
            "\
            ERROR: <input>:1:21: invalid matches argument\n | object.text.matches('(')\n | ....................^",
        ),
        (
            "'%s is %d, %.2f, %x, %e, %b, %o, 100%%'.format(['a', 5, 1.5, 255, 1234.5, 5, 8])",
            "\"a is 5, 1.50, ff, 1.234500e+03, 101, 10, 100%\"",
        ),
        ("'%s %s'.format([[1, 'a'], {'k': 2.0}])", "\"[1, a] {k: 2}\""),
        (
            "'%d'.format(['a'])",
            "error: error during formatting: decimal clause can only be used on numbers, was given string",
        ),
        ("strings.quote('a\"\\n')", "\"\\\"a\\\\\\\"\\\\n\\\"\""),
        ("jsonpatch.escapeKey('a/b~c')", "\"a~1b~0c\""),
    ]);
}

#[test]
fn lists_sets_and_optional_values() {
    table(&[
        ("[1, 2, 2].isSorted() && ![2, 1].isSorted()", "true"),
        ("[1, 2, 3].sum() + [1, 5].max() - [3, 2].min()", "9"),
        ("['a', 'b', 'a'].lastIndexOf('a') + ['a'].indexOf('z')", "1"),
        ("[1, 2].min() == 1 && object.list.max() == 3", "true"),
        ("[].max()", "error: max called on empty list"),
        ("['b', 'a'].sort() + ['c'].reverse()", "[\"a\", \"b\", \"c\"]"),
        ("[1, 2, 3, 4].slice(1, 3)", "[2, 3]"),
        ("[[1], [2, 3]].flatten()", "[1, 2, 3]"),
        ("[1, 2, 1].distinct()", "[1, 2]"),
        ("lists.range(3)", "[0, 1, 2]"),
        ("object.list.includes(2) && object.text.includes('x')", "true"),
        (
            "sets.contains([1, 2], [2]) && sets.equivalent([1, 2], [2, 1, 1]) && !sets.intersects([1], [2])",
            "true",
        ),
        ("[1].first().value() + [1, 2].last().orValue(0)", "3"),
        ("optional.none().orValue(5)", "5"),
        ("optional.none().value()", "error: optional.none() dereference"),
        ("optional.ofNonZeroValue('').hasValue() || optional.of('').hasValue()", "true"),
        ("optional.none().or(optional.of(1)).value()", "1"),
        ("optional.unwrap([optional.of(1), optional.none()])", "[1]"),
    ]);
}

#[test]
fn addresses_and_urls() {
    table(&[
        ("ip('192.168.0.1').family() + ip('::1').family()", "10"),
        ("isIP('1.2.3.4') && !isIP('1.2.3') && !isIP('::ffff:1.2.3.4')", "true"),
        ("ip.isCanonical('::1') && !ip.isCanonical('0:0::1')", "true"),
        (
            "ip('10.0.0.1').isGlobalUnicast() && ip('127.0.0.1').isLoopback() && ip('fe80::1').isLinkLocalUnicast()",
            "true",
        ),
        ("cidr('10.1.2.3/8').masked() == cidr('10.0.0.0/8')", "true"),
        ("cidr('10.0.0.0/8').containsIP('10.9.9.9') && !cidr('10.0.0.0/8').containsIP('11.0.0.0')", "true"),
        (
            "cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16') && !cidr('10.1.0.0/16').containsCIDR('10.0.0.0/8')",
            "true",
        ),
        ("string(cidr('2001:db8::/32').ip()) + string(cidr('10.0.0.0/8').prefixLength())", "\"2001:db8::8\""),
        ("isCIDR('10.0.0.0/33') || isCIDR('10.0.0.0')", "false"),
        ("url('https://user@example.com:80/a b?k=v%20w&k=2#f').getHost()", "\"example.com:80\""),
        ("url('https://[::1]:80/').getHostname() + url('https://e.com:81').getPort()", "\"::181\""),
        ("url('https://example.com/a b').getEscapedPath()", "\"/a%20b\""),
        ("url('https://example.com/?k=v%20w&k=2').getQuery()", "{\"k\": [\"v w\", \"2\"]}"),
        ("isURL('/path') && !isURL('../a') && !isURL('example.com')", "true"),
    ]);
}

#[test]
fn quantities_versions_and_formats() {
    table(&[
        ("quantity('50k').add(20) == quantity('50020')", "true"),
        (
            "quantity('1Gi').isGreaterThan(quantity('1G')) && quantity('1').compareTo(quantity('1000m')) == 0",
            "true",
        ),
        ("quantity('50k').asInteger() - quantity('-3').sign()", "50001"),
        ("quantity('1.5').isInteger() || isQuantity('1x')", "false"),
        ("quantity('1500m').asApproximateFloat()", "1.5"),
        (
            "semver('1.2.3').isLessThan(semver('1.10.0')) && semver('1.0.0-rc.1').isLessThan(semver('1.0.0'))",
            "true",
        ),
        ("semver('v1.02', true).minor() + semver('1.2.3').patch()", "5"),
        ("isSemver('1.2') || isSemver('01.2.3')", "false"),
        ("format.dns1123Label().validate('web').hasValue()", "false"),
        ("format.named('dns1123Label').value().validate('Web_').value().size()", "1"),
        ("format.named('nope').hasValue()", "false"),
        ("format.uuid().validate('nope').value()", "[\"does not match the UUID format\"]"),
    ]);
}

#[test]
fn times() {
    table(&[
        ("timestamp('0001-01-01T00:00:00Z') + duration('-1ns')", "error: timestamp overflow"),
        ("timestamp('2026-02-03T04:05:06.789Z').getFullYear()", "2026"),
        ("timestamp('2026-02-03T04:05:06.789Z').getMonth()", "1"),
        ("timestamp('2026-02-03T04:05:06.789Z').getHours('-05:30')", "22"),
        ("timestamp('2026-02-03T04:05:06.789Z').getDayOfWeek()", "2"),
        ("timestamp('2026-02-03T04:05:06.789Z').getMilliseconds()", "789"),
        ("timestamp('2026-02-03T04:05:06Z') - timestamp('2026-02-03T04:00:00Z') == duration('5m6s')", "true"),
        ("timestamp('2026-02-03T04:05:06Z') + duration('1h') > timestamp('2026-02-03T04:59:00Z')", "true"),
        ("timestamp('9999-12-30T22:00:00Z') + duration('1h')", "error: timestamp overflow"),
        ("duration('1h30m').getMinutes() + duration('1500ms').getSeconds()", "91"),
        (
            "string(duration('1m1.5s')) + string(timestamp('2026-02-03T04:05:06Z'))",
            "\"61.5s2026-02-03T04:05:06Z\"",
        ),
    ]);
}

#[test]
fn conversions() {
    table(&[
        ("int('42') + int(3.9) + int(2u)", "47"),
        ("int('x')", "error: strconv.ParseInt: parsing \"x\": invalid syntax"),
        ("uint(-1)", "error: unsigned integer overflow"),
        ("double('1.5') + double(1)", "2.5"),
        ("string(1) + string(1.5) + string(true) + string(1e100)", "\"11.5true1e+100\""),
        ("bool('true') && type('a') == string && type([]) == list", "true"),
        ("bytes('é').size() + 'é'.size()", "3"),
        ("string(b'abc')", "\"abc\""),
    ]);
}

#[test]
fn the_authorizer_is_asked() {
    table(&[
        ("authorizer.path('/healthz').check('get').allowed()", "true"),
        ("authorizer.path('/other').check('get').reason()", "\"because\""),
        ("authorizer.path(' ').check('get').allowed()", "error: path must not be empty"),
        ("authorizer.group('').resource('pods').namespace('a').check('create').allowed()", "false"),
        (
            "authorizer.serviceAccount('ns', 'robot').group('').resource('pods').namespace('a').check('create').allowed()",
            "true",
        ),
        (
            "authorizer.serviceAccount('ns', 'Robot').group('').resource('pods').check('x').allowed()",
            "error: Invalid service account name",
        ),
        (
            "[1, 2, 3].all(i, !authorizer.path('/a').check('get').allowed())",
            "error: operation cancelled: actual cost limit exceeded",
        ),
    ]);
}
