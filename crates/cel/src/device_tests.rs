use super::*;

#[test]
fn expressions_see_what_is_told_of_a_device() {
    let version = Semver::parse("1.10.0").expect("a version");
    let device = Device {
        driver: "gpu.example",
        allows_multiple: false,
        attributes: vec![
            ("gpu.example", "model", Attribute::Text("x100")),
            ("gpu.example", "index", Attribute::Int(3)),
            ("gpu.example", "healthy", Attribute::Bool(true)),
            ("other.example", "firmware", Attribute::Version(&version)),
        ],
        capacity: vec![("gpu.example", "memory", "40Gi".parse().expect("a quantity"))],
    };
    for (expression, wanted) in [
        ("device.driver == 'gpu.example' && !device.allowMultipleAllocations", Ok(true)),
        ("device.attributes['gpu.example'].model == 'x100'", Ok(true)),
        ("device.attributes['gpu.example'].index > 3", Ok(false)),
        ("device.attributes['gpu.example'].healthy", Ok(true)),
        ("device.attributes['other.example'].firmware.isGreaterThan(semver('1.9.0'))", Ok(true)),
        ("device.capacity['gpu.example'].memory.compareTo(quantity('40960Mi')) == 0", Ok(true)),
        ("'gpu.example' in device.attributes && !('none' in device.attributes)", Ok(true)),
        ("has(device.attributes['none'].model)", Ok(false)),
        ("device.attributes['none'].?model.orValue('y') == 'y'", Ok(true)),
        ("device.attributes['none'].model == 'y'", Err("no such key: model")),
        ("device.attributes['gpu.example'].model", Err("CEL result was not a bool")),
        ("cel.bind(g, device.attributes['gpu.example'], g.healthy && g.index == 3)", Ok(true)),
    ] {
        let program = Program::compile(expression, &ENVIRONMENT).expect(expression);
        let found = selects(&program, &device.value());
        assert_eq!(found.map_err(|e| e.to_string()), wanted.map_err(str::to_owned), "{expression}");
    }
}
